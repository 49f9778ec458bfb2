package sitetest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

// A Cluster is several replicas that share a store.
type Cluster struct {
	Shared  store.Store
	Options sluice.Options // of the replicas that are to be started
	Sites   []*Site
	Rand    *rand.Rand // always the same, unless it is replaced

	t *testing.T
}

// NewCluster starts n replicas of [NewServer], for as long as the test takes.
func NewCluster(t *testing.T, n int, opts sluice.Options) *Cluster {
	shared := memory.New()
	c := &Cluster{t: t, Shared: shared, Options: opts, Rand: rand.New(rand.NewPCG(1, uint64(n)))} //nolint:gosec // it chooses replicas
	for range n {
		c.Launch()
	}
	t.Cleanup(func() {
		for _, s := range c.Sites {
			s.Cut()
			s.Tap.Set(Open)
			if err := s.Handler.Close(); err != nil {
				t.Errorf("closing %s: %v", s.Name, err)
			}
		}
		_ = shared.Close()
		time.Sleep(2 * time.Second) // what was asked to end does; time stops with the test
	})
	return c
}

// Launch starts one more replica of [NewServer].
func (c *Cluster) Launch() *Site { return c.Add(NewServer()) }

// Add starts a replica of a server.
func (c *Cluster) Add(server *mcp.Server) *Site { return c.AddOver(c.Shared, server) }

// AddOver starts a replica that has its own way to the store.
func (c *Cluster) AddOver(way store.Store, server *mcp.Server) *Site {
	s := c.start(way, func() *mcp.Server { return server })
	s.Server = server
	return s
}

// AddEach starts a replica whose sessions have servers of their own.
func (c *Cluster) AddEach(getServer func() *mcp.Server) *Site { return c.start(c.Shared, getServer) }

func (c *Cluster) start(way store.Store, getServer func() *mcp.Server) *Site {
	name := strconv.Itoa(len(c.Sites))
	s := NewSite(c.t, name, NewTap(way), c.Options, getServer)
	c.Sites = append(c.Sites, s)
	return s
}

// NewAlone starts a server that shares nothing, for as long as the test takes.
func NewAlone(t *testing.T, opts sluice.Options, getServer func() *mcp.Server) *Site {
	s := NewSite(t, "alone", nil, opts, getServer)
	t.Cleanup(func() {
		s.Cut()
		if err := s.Handler.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second) // as above
	})
	return s
}

// Warm makes every replica know its server: it watches one that it has seen twice.
func (c *Cluster) Warm() {
	for _, s := range c.Sites {
		for range 2 {
			Stateless(c.t, s, "tools/call", "fast", `"name":"fast","arguments":{}`).Want(c.t, "fast")
		}
	}
}

// Any is a random replica.
func (c *Cluster) Any() *Site { return c.Sites[c.Rand.IntN(len(c.Sites))] }

// EnvInt is a number that the environment may set, as how many schedules to play.
func EnvInt(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return def
}
