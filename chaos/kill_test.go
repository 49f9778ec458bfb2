//go:build unix

package chaos_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// TestKills kills and restarts replicas at random under the calls of 200 clients.
func TestKills(t *testing.T) {
	storeURL := sharedStore(t)
	cluster := servers(t, 3, storeURL, storeURL)
	l := newLoad(t, cluster, storeURL, 20)
	stop := make(chan struct{})
	time.AfterFunc(troubleTime(t), func() { close(stop) })
	var killers sync.WaitGroup
	kills := make([]int, 3)
	for i, s := range cluster.Servers {
		killers.Go(func() {
			rng := rand.New(rand.NewPCG(2, uint64(i)))
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Second + time.Duration(rng.IntN(4000))*time.Millisecond):
				}
				s.Kill()
				kills[i]++
				time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
				s.Restart()
			}
		})
	}
	l.run(200, stop)
	killers.Wait()
	t.Logf("%v kills; %v", kills, l)
	if l.resumes.Load() == 0 || l.lost.Load() == 0 {
		t.Error("nothing was hit: the test proves nothing")
	}
}

// TestRollingRestarts stops and restarts one replica after the other under load: nobody notices.
func TestRollingRestarts(t *testing.T) {
	storeURL := sharedStore(t)
	cluster := servers(t, 3, storeURL, storeURL)
	l := newLoad(t, cluster, storeURL, 20)
	l.gentle = true
	stop := make(chan struct{})
	end := time.Now().Add(troubleTime(t))
	restarts := 0
	go func() {
		defer close(stop)
		for i := 0; time.Now().Before(end) || i < 3; i++ {
			s := cluster.Servers[i%3]
			if state := s.Stop(); state == nil || state.ExitCode() != 0 {
				t.Errorf("replica %d ended with %v", i%3, state)
				return
			}
			s.Restart()
			restarts++
		}
	}()
	l.run(100, stop)
	t.Logf("%d restarts; %v", restarts, l)
	if l.resumes.Load() == 0 {
		t.Error("no stream was moved: the test proves nothing")
	}
}
