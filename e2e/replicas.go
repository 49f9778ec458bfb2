package e2e

import (
	"context"
	"testing"
	"time"
)

// healthInterval is how often a cluster's balancer asks its servers whether they are ready.
const healthInterval = 50 * time.Millisecond

// A Cluster is several servers behind one balancer.
type Cluster struct {
	*Balancer
	Servers []*Server
}

// Replicas starts n servers behind a [Balancer], which keeps away from those whose
// /readyz says that they are not ready.
func Replicas(t testing.TB, n int, target Target, opts ...Option) *Cluster {
	t.Helper()
	cfg := newConfig(opts)
	type started struct {
		i      int
		server *Server
		err    error
	}
	results := make(chan started)
	for i := range n {
		go func() {
			s, err := start(t, target, cfg)
			results <- started{i, s, err}
		}()
	}
	c := &Cluster{Servers: make([]*Server, n)}
	var failed error
	for range n {
		r := <-results
		c.Servers[r.i] = r.server
		if r.err != nil {
			failed = r.err
		}
	}
	if failed != nil {
		t.Fatal(failed)
	}
	targets := make([]Endpoint, n)
	for i, s := range c.Servers {
		targets[i] = s
	}
	c.Balancer = Proxy(t, targets...)
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() {
		c.watch(ctx, healthInterval)
		close(watched)
	}()
	t.Cleanup(func() {
		cancel()
		<-watched
	})
	return c
}
