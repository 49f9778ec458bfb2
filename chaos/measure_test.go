//go:build unix

package chaos_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/e2e"
)

// BenchmarkTakeover measures how long a client waits, from the moment that the replica which runs its call is gone, for the
// next event that it has not seen. One iteration is one kill; docs/replicas.md says how it was run.
func BenchmarkTakeover(b *testing.B) {
	for name, tt := range map[string]struct {
		lose, back func(*e2e.Cluster, int)
	}{
		"death": {func(c *e2e.Cluster, i int) { c.Servers[i].Kill() }, func(c *e2e.Cluster, i int) { c.Servers[i].Restart() }},
		"silence": {
			// The client does not wait to see that nothing comes: what is measured is the servers' part.
			func(c *e2e.Cluster, i int) { c.Servers[i].Pause(); c.CutAll() },
			func(c *e2e.Cluster, i int) { c.Servers[i].Resume() },
		},
	} {
		b.Run(name, func(b *testing.B) {
			storeURL := sharedStore(b)
			cluster := servers(b, 3, storeURL, storeURL)
			s := e2e.RawConnect(b, cluster, nil)
			var took []time.Duration
			for b.Loop() {
				victim := len(took) % 3
				var gone atomic.Bool
				turn := 0
				cluster.Pick(func(e2e.Request) int {
					if !gone.Load() {
						return victim
					}
					turn++
					return victim + 1 + turn%2
				})
				ctx, cancel := context.WithCancel(b.Context())
				call := s.CallTool(ctx, "countdown", map[string]any{"from": 2000, "delay_ms": 5})
				seen := map[string]bool{}
				next := func() {
					m, err := call.Next()
					for err == nil && seen[m.EventID] {
						m, err = call.Next()
					}
					if err != nil {
						b.Fatalf("%v, %+v", err, call.Stats)
					}
					seen[m.EventID] = true
				}
				next()
				next()
				gone.Store(true)
				start := time.Now()
				tt.lose(cluster, victim)
				for call.Stats.Resumes == 0 {
					next() // what was on its way does not count
				}
				took = append(took, time.Since(start))
				cancel()
				_ = s.Notify(b.Context(), "notifications/cancelled", map[string]any{"requestId": call.ID})
				tt.back(cluster, victim)
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Milliseconds()), "p99-ms")
			b.ReportMetric(float64(took[len(took)-1].Milliseconds()), "max-ms")
		})
	}
}

// BenchmarkCalls measures calls of sessions: fast ones, and ones that stream ten messages. With the shared
// store every call goes to the next replica.
func BenchmarkCalls(b *testing.B) {
	for _, kind := range []string{"memory", "redis"} {
		for _, n := range []int{1, 3} {
			b.Run(fmt.Sprintf("%s-%d", kind, n), func(b *testing.B) {
				storeURL := "memory:"
				if kind == "redis" {
					storeURL = sharedStore(b)
				}
				cluster := servers(b, n, storeURL, "")
				for name, call := range map[string]string{
					"fast":     `"name":"add","arguments":{"a":1,"b":2}`,
					"streamed": `"name":"countdown","arguments":{"from":10,"delay_ms":0},"_meta":{"progressToken":1}`,
				} {
					b.Run(name, func(b *testing.B) {
						var born atomic.Int64
						b.SetParallelism(8)
						b.RunParallel(func(p *testing.PB) {
							i := int(born.Add(1))
							c := newBare(b, cluster.Servers[i%n].URL())
							for k := 0; p.Next(); k++ {
								if kind == "redis" {
									c.url = cluster.Servers[(i+k)%n].URL()
								}
								if err := c.call(call); err != nil {
									b.Error(err)
									return
								}
							}
						})
						b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
					})
				}
			})
		}
	}
}

// bare is a session client that costs little by itself.
type bare struct {
	client  *http.Client
	url     string
	session string
	id      int
}

func newBare(b *testing.B, url string) *bare {
	c := &bare{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}, url: url}
	resp, err := c.post(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bare","version":"1"}}}`)
	if err != nil {
		b.Error(err)
		return c
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	c.session = resp.Header.Get("Mcp-Session-Id")
	if resp, err = c.post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`); err != nil {
		b.Error(err)
		return c
	}
	_ = resp.Body.Close()
	return c
}

func (c *bare) post(body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, c.url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if c.session != "" {
		req.Header.Set("Mcp-Session-Id", c.session)
		req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	}
	return c.client.Do(req)
}

// call makes a call and looks for its result.
func (c *bare) call(params string) error {
	c.id++
	resp, err := c.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{%s}}`, c.id, params))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		data := bytes.TrimPrefix(lines.Bytes(), []byte("data: "))
		if !bytes.Contains(data, []byte(`"result"`)) {
			continue
		}
		var m struct {
			ID     int
			Result struct{ IsError bool }
		}
		if err := json.Unmarshal(data, &m); err != nil || m.ID != c.id || m.Result.IsError {
			return fmt.Errorf("not a result: %s", data)
		}
		_, err := io.Copy(io.Discard, resp.Body)
		return err
	}
	return fmt.Errorf("no result: %s %w", resp.Status, lines.Err())
}
