package task_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/schematest"
	"github.com/sluice-mcp/sluice/internal/sitetest"
)

// What clients, handlers and stores do to tasks that nobody had in mind.

// toolServer has one tool, whose calls become tasks.
func toolServer(o sluice.TaskOptions, repeatable bool, f mcp.ToolHandler) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "hostile", Version: "1"}, nil)
	tool := &mcp.Tool{Name: "t", InputSchema: json.RawMessage(`{"type":"object"}`), Annotations: &mcp.ToolAnnotations{ReadOnlyHint: repeatable}}
	sluice.MarkTask(tool, o)
	s.AddTool(tool, f)
	return s
}

// newToolCluster returns replicas that all have the tool.
func newToolCluster(t *testing.T, n int, opts sluice.Options, repeatable bool, f mcp.ToolHandler) *sitetest.Cluster {
	cl := sitetest.NewCluster(t, 0, opts)
	for range n {
		cl.Add(toolServer(sluice.TaskOptions{Mode: sluice.TaskPrefer}, repeatable, f))
	}
	return cl
}

// idle looks whether a replica works on nothing. It takes nothing on any more then.
func idle(t *testing.T, s *sitetest.Site) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := s.Handler.Drain(ctx); err != nil {
		t.Errorf("%s still works: %v", s.Name, err)
	}
}

// A hook says how the operations of one replica's store go, from when it is set on.
type hook struct {
	atomic.Pointer[func(op string) sitetest.Fate]
}

// addHooked starts a replica with a hook.
func addHooked(cl *sitetest.Cluster, server *mcp.Server) (*sitetest.Site, *hook) {
	h := new(hook)
	way := sitetest.NewTap(cl.Shared)
	way.Before = func(op string) sitetest.Fate {
		if f := h.Load(); f != nil {
			return (*f)(op)
		}
		return sitetest.Done
	}
	return cl.AddOver(way, server), h
}

func (h *hook) set(f func(op string) sitetest.Fate) { h.Store(&f) }

// until waits for a status of a task.
func (c taskClient) until(t *testing.T, at *sitetest.Site, id, state string, within time.Duration) *taskReply {
	t.Helper()
	var r *taskReply
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if r = c.get(t, at, id); r.State == state {
			return r
		}
	}
	t.Fatalf("after %v it is %+v, want %s", within, r, state)
	return nil
}

func TestTaskRefusesWhatIsMalformed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, _ := newTasks(t, 1)
		at, c := cl.Sites[0], taskClient{caps: taskCaps}
		id := c.call(t, at, "ask", `{"ID":"1"}`).TaskID
		c.until(t, at, id, "input_required", 5*time.Second)
		long := strings.Repeat("x", 100<<10)
		for _, taskID := range []string{`null`, `7`, `{}`, `[]`, `true`, `""`, `"\u0000"`, `"` + long + `"`, `"` + id + ` "`, `"` + strings.ToLower(id) + `"`} {
			for method, more := range map[string]string{"tasks/get": "", "tasks/update": `,"inputResponses":{}`, "tasks/cancel": ""} {
				if r := c.must(t, at, method, "", `"taskId":`+taskID+more); r.Error == nil || r.Error.Code != -32602 || r.Status != http.StatusBadRequest {
					t.Errorf("%s of %.40s: %+v", method, taskID, r)
				}
			}
		}
		for _, answers := range []string{`null`, `7`, `"x"`, `[]`, `[{}]`, `{"a.1":null}`, `{"a.1":7}`, `{"a.1":[]}`, `{"a.1":{}}`, `{"a.1":{"action":"accept"}}`, `{"a.1":{"action":"accept","content":7}}`, `{"a.1":{"action":"perhaps"}}`} {
			if r := c.update(t, at, id, answers); r.Error == nil || r.Error.Code != -32602 {
				t.Errorf("answers %s: %+v", answers, r)
			}
		}
		if r := c.must(t, at, "tasks/update", id, fmt.Sprintf(`"taskId":%q`, id)); r.Error == nil || r.Error.Code != -32602 {
			t.Errorf("no answers: %+v", r)
		}
		if r := c.get(t, at, id); len(r.InputRequests) != 2 {
			t.Errorf("one of them was taken: %+v", r)
		}
		many := strings.Repeat(`"x",`, 1000) + `"x"`
		for _, ids := range []string{`7`, `"x"`, `{}`, `[7]`, `[null,{}]`, `[` + many + `]`} {
			if r := c.must(t, at, "subscriptions/listen", "", `"notifications":{"taskIds":`+ids+`}`); r.Error == nil || r.Error.Code != -32602 {
				t.Errorf("listening to %.40s: %+v", ids, r)
			}
		}
	})
}

// What is too much to be kept is refused, or ends its task with an error; never does it leave one working.
func TestTaskBounds(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("x", 1<<20)
	for name, tt := range map[string]struct {
		args  string
		tool  mcp.ToolHandler
		code  int // of the refusal
		state string
		ends  int // the code of the task's error
	}{
		"params": {
			args: `{"x":"` + strings.Repeat("x", 9<<20) + `"}`, code: -32602,
			tool: func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return sitetest.Text("ran"), nil
			},
		},
		"a result": {
			state: "failed", ends: -32603,
			tool: func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return sitetest.Text(strings.Repeat("x", 9<<20)), nil
			},
		},
		"a result that just fits": {
			state: "completed",
			tool: func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return sitetest.Text(strings.Repeat("x", 8<<20-1000)), nil
			},
		},
		"a question": {
			state: "failed", ends: -32603,
			tool: func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"q": &mcp.ElicitParams{Message: huge, RequestedSchema: json.RawMessage(`{"type":"object"}`)}}}, nil
			},
		},
		"an error": {
			state: "failed", ends: -32603,
			tool: func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return nil, &jsonrpc.Error{Code: -32050, Message: huge}
			},
		},
		"nothing at all": {
			state: "failed", ends: -32603,
			tool: func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return nil, nil }, //nolint:nilnil // as a handler may
		},
		"a goroutine that ends": {
			state: "failed", ends: -32603,
			tool: func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				runtime.Goexit()
				return nil, nil
			}, //nolint:nilnil // as above
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl := newToolCluster(t, 1, sluice.Options{MaxBody: 32 << 20}, false, tt.tool)
				c := taskClient{caps: taskCaps}
				args := tt.args
				if args == "" {
					args = "{}"
				}
				h := c.call(t, cl.Sites[0], "t", args)
				if tt.code != 0 {
					if h.Error == nil || h.Error.Code != tt.code {
						t.Errorf("%+v", h.Error)
					}
					return
				}
				r := c.until(t, cl.Sites[0], h.TaskID, tt.state, 10*time.Second)
				if tt.ends != 0 && (r.Error == nil || r.Error.Code != tt.ends) {
					t.Errorf("its error is %.200v", r.Error)
				}
			})
		})
	}
}

// An answer that is too much is refused, and another one is taken.
func TestTaskAnswerTooLarge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, _ := newTasks(t, 2)
		c := taskClient{caps: taskCaps}
		id := c.call(t, cl.Sites[0], "ask", `{"ID":"1"}`).TaskID
		c.until(t, cl.Sites[0], id, "input_required", 5*time.Second)
		huge := strings.Repeat("x", 1<<20)
		both := `{"a.1":{"action":"accept","content":{"x":"` + huge + `"}},"b.1":{"action":"accept","content":{"x":"B"}}}`
		if r := c.update(t, cl.Sites[1], id, both); r.Error == nil || r.Error.Code != -32602 {
			t.Errorf("%+v", r)
		}
		c.update(t, cl.Sites[1], id, strings.Replace(both, huge, "A", 1))
		if r := c.until(t, cl.Sites[0], id, "completed", 5*time.Second); r.text() != "AB kept 1" {
			t.Errorf("%+v", r)
		}
	})
}

// Whoever chooses the server by what HTTP middleware knows of a request finds nothing when a task goes on elsewhere. That may
// cost the task, and nothing else.
func TestTaskResumesWithoutItsRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := sitetest.NewCluster(t, 0, sluice.Options{})
		server := toolServer(sluice.TaskOptions{Mode: sluice.TaskPrefer}, true, func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
		var lost atomic.Bool
		for range 2 {
			cl.AddEach(func() *mcp.Server {
				if lost.Load() {
					panic("nothing is known of the tenant")
				}
				return server
			})
		}
		c := taskClient{caps: taskCaps}
		id := c.call(t, cl.Sites[0], "t", `{}`).TaskID
		cl.Sites[0].Kill()
		lost.Store(true)
		time.Sleep(15 * time.Second)
		lost.Store(false)
		if r := c.until(t, cl.Sites[1], id, "failed", time.Second); r.Error.Code != -32603 {
			t.Errorf("%+v", r.Error)
		}
	})
}

// A replica that slept past its lease and says nothing hears that its task is another's, and can take it again.
func TestTaskIsLostInSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ended, began atomic.Int64
		cl := newToolCluster(t, 2, sluice.Options{}, true, func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			began.Add(1)
			select {
			case <-time.After(time.Minute):
				return sitetest.Text("done"), nil
			case <-ctx.Done():
				ended.Add(1)
				return nil, context.Cause(ctx)
			}
		})
		c := taskClient{caps: taskCaps}
		id := c.call(t, cl.Sites[0], "t", `{}`).TaskID
		cl.Sites[0].Freeze()
		time.Sleep(15 * time.Second)
		if began.Load() != 2 {
			t.Fatalf("%d replicas work on it", began.Load())
		}
		cl.Sites[0].Unfreeze()
		time.Sleep(3 * time.Second)
		if ended.Load() != 1 {
			t.Errorf("%d handlers have heard", ended.Load())
		}
		cl.Sites[1].Kill()
		time.Sleep(15 * time.Second)
		if began.Load() != 3 {
			t.Errorf("it was not taken up again: %d", began.Load())
		}
		c.until(t, cl.Sites[0], id, "completed", 2*time.Minute)
	})
}

// A store whose answer is lost leaves a task that some replica owns and does not know of, unless it finds out.
func TestTaskOutcomeUnknown(t *testing.T) {
	t.Parallel()
	lose := func(h *hook, d time.Duration) {
		var mu sync.Mutex
		var since time.Time
		h.set(func(op string) sitetest.Fate {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case since.IsZero() && op == "swap":
				since = time.Now()
				return sitetest.Unsure
			case !since.IsZero() && time.Since(since) < d && op == "get":
				return sitetest.Failed
			}
			return sitetest.Done
		})
	}
	t.Run("the last answer", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			cl, ran := newTasks(t, 1)
			_, store := addHooked(cl, taskServer(ran))
			c := taskClient{caps: taskCaps}
			id := c.call(t, cl.Sites[0], "ask", `{"ID":"1"}`).TaskID
			c.until(t, cl.Sites[0], id, "input_required", 5*time.Second)
			lose(store, 7*time.Second)
			ctx, cancel := context.WithCancel(t.Context())
			defer time.AfterFunc(2*time.Second, cancel).Stop() // the client does not wait so long
			_, _ = c.do(ctx, cl.Sites[1], "tasks/update", id, fmt.Sprintf(`"taskId":%q,"inputResponses":{"a.1":{"action":"accept","content":{"x":"A"}},"b.1":{"action":"accept","content":{"x":"B"}}}`, id))
			c.until(t, cl.Sites[0], id, "completed", 20*time.Second)
			if n := ran.Of("ask 1"); n != 2 {
				t.Errorf("it ran %d times", n)
			}
		})
	})
	t.Run("a claim", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			cl, ran := newTasks(t, 1)
			_, store := addHooked(cl, taskServer(ran))
			c := taskClient{caps: taskCaps}
			id := c.call(t, cl.Sites[0], "work", `{"ID":"1","MS":2000}`).TaskID
			cl.Sites[0].Kill()
			time.Sleep(100 * time.Millisecond)
			lose(store, 7*time.Second)
			time.Sleep(20 * time.Second)
			c.until(t, cl.Sites[1], id, "completed", 20*time.Second)
		})
	})
}

// A handler whose context ends because its replica leaves has not thereby ended its task.
func TestTaskSurvivesItsReplicasEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, _ := newTasks(t, 2)
		c := taskClient{caps: taskCaps}
		var ids []string
		for i := range 50 {
			ids = append(ids, c.call(t, cl.Sites[0], "work", fmt.Sprintf(`{"ID":"%d","MS":3000}`, i)).TaskID)
		}
		_ = cl.Sites[0].Handler.Close()
		cl.Sites[0].Kill()
		for _, id := range ids {
			c.until(t, cl.Sites[1], id, "completed", 20*time.Second)
		}
	})
}

// Handlers that do not heed their context stay under the limits until they return, whatever has become of their tasks.
func TestTaskHandlersAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := newToolCluster(t, 1, sluice.Options{MaxTasks: 3, MaxTasksPerPrincipal: 2, Principal: func(r *http.Request) string { return r.Header.Get("X-Principal") }}, false,
			func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				time.Sleep(time.Minute)
				return sitetest.Text("late"), nil
			})
		at, alice, bob := cl.Sites[0], taskClient{taskCaps, "alice"}, taskClient{taskCaps, "bob"}
		for range 2 {
			alice.cancel(t, at, alice.call(t, at, "t", `{}`).TaskID)
		}
		time.Sleep(10 * time.Second) // they are cancelled by now
		refused := func(c taskClient, status int) {
			t.Helper()
			if r := c.call(t, at, "t", `{}`); r.Status != status || r.Error == nil || r.Error.Code != -31010 {
				t.Errorf("%s: HTTP %d %+v, want %d", c.principal, r.Status, r.Error, status)
			}
		}
		refused(alice, http.StatusTooManyRequests)
		if r := bob.call(t, at, "t", `{}`); r.TaskID == "" {
			t.Errorf("%+v", r)
		}
		refused(bob, http.StatusServiceUnavailable)
		time.Sleep(2 * time.Minute)
		if r := alice.call(t, at, "t", `{}`); r.TaskID == "" {
			t.Errorf("when they have returned: %+v", r)
		}
		time.Sleep(2 * time.Minute) // the handlers return
	})
}

// A tool that asks often may still lose a replica: the limit is on those lost in one round.
func TestTaskOfManyRounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := newToolCluster(t, 2, sluice.Options{}, true, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			if len(req.Params.RequestState) < 20 {
				return &mcp.CallToolResult{
					InputRequests: mcp.InputRequestMap{"q": &mcp.ElicitParams{Message: "?", RequestedSchema: json.RawMessage(`{"type":"object"}`)}},
					RequestState:  req.Params.RequestState + "x",
				}, nil
			}
			select {
			case <-time.After(2 * time.Second):
				return sitetest.Text("done"), nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		})
		c := taskClient{caps: taskCaps}
		id := c.call(t, cl.Sites[0], "t", `{}`).TaskID
		for round := 1; round <= 20; round++ {
			c.until(t, cl.Sites[0], id, "input_required", 5*time.Second)
			c.update(t, cl.Sites[0], id, fmt.Sprintf(`{"q.%d":{"action":"accept","content":{}}}`, round))
		}
		cl.Sites[0].Kill()
		c.until(t, cl.Sites[1], id, "completed", 20*time.Second)
	})
}

// Parameters that the record does not hold are waited for when the store is away just then.
func TestTaskParamsAreWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, ran := newTasks(t, 1)
		_, store := addHooked(cl, taskServer(ran))
		c := taskClient{caps: taskCaps}
		id := c.call(t, cl.Sites[0], "work", `{"ID":"1","MS":1000,"pad":"`+strings.Repeat("p", 40<<10)+`"}`).TaskID
		cl.Sites[0].Kill()
		var reads atomic.Int64
		store.set(func(op string) sitetest.Fate {
			if op == "read" && reads.Add(1) < 5 {
				return sitetest.Failed
			}
			return sitetest.Done
		})
		time.Sleep(20 * time.Second)
		if r := c.until(t, cl.Sites[1], id, "completed", 20*time.Second); r.text() != "done 1" || reads.Load() < 5 {
			t.Errorf("%+v after %d reads", r, reads.Load())
		}
	})
}

// Of many tasks at once all are told of, also when they are large and their client is slow.
func TestTaskListenToMany(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ tasks, size int }{"many": {600, 10}, "large": {120, 60 << 10}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Repeat("x", tt.size)
			server := toolServer(sluice.TaskOptions{Mode: sluice.TaskPrefer}, false, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return sitetest.Text(text), nil
			})
			h := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, nil)
			defer h.Close()
			plain := httptest.NewServer(h) // hundreds of handles need not be judged
			defer plain.Close()
			watched := httptest.NewServer(schematest.Watch(t, h))
			defer watched.Close()
			post := func(url, method, name, params string) *http.Response {
				body := fmt.Sprintf(`{"jsonrpc":"2.0","id":"m","method":%q,"params":{%s,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":%s}}}`, method, params, taskCaps)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				for k, v := range map[string]string{"Accept": "application/json, text/event-stream", "Content-Type": "application/json", "Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": name} {
					if v != "" {
						req.Header.Set(k, v)
					}
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				return resp
			}
			ids := make([]string, tt.tasks)
			for i := range ids {
				resp := post(plain.URL, "tools/call", "t", `"name":"t","arguments":{}`)
				text, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				var m struct{ Result taskReply }
				if err != nil || json.Unmarshal(text[bytes.IndexByte(text, '{'):], &m) != nil || m.Result.TaskID == "" {
					t.Fatalf("%v %s", err, text)
				}
				ids[i] = m.Result.TaskID
			}
			asked, err := json.Marshal(ids)
			if err != nil {
				t.Fatal(err)
			}
			resp := post(watched.URL, "subscriptions/listen", "", `"notifications":{"taskIds":`+string(asked)+`}`) //nolint:bodyclose // the response's reader closes it
			stream := sitetest.NewResponse(resp)
			defer stream.Leave()
			told := make(map[string]bool)
			for len(told) < len(ids) {
				m := stream.Message(t)
				if m.Method != "notifications/tasks" {
					time.Sleep(4 * time.Second) // what is told first has filled the stream
					continue
				}
				var r taskReply
				if err := json.Unmarshal(m.Params, &r); err != nil {
					t.Fatal(err)
				}
				if r.State == "completed" {
					told[r.TaskID] = true
				}
			}
		})
	}
}

// When the client of a call that is about to become a task leaves, either there is a task, or the handler is cancelled.
func TestTaskPromotionMeetsItsClientsEnd(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(1, seed))
				cl, ran := newTasks(t, 0)
				cl.Options.TaskAfter = time.Second
				s, store := addHooked(cl, taskServer(ran))
				store.set(func(string) sitetest.Fate { time.Sleep(5 * time.Millisecond); return sitetest.Done })
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(995*time.Millisecond+time.Duration(rng.IntN(20000))*time.Microsecond, cancel)
				c := taskClient{caps: taskCaps}
				r, err := c.do(ctx, s, "tools/call", "auto", `"name":"auto","arguments":{"ID":"1","MS":10000}`)
				time.Sleep(time.Second)
				if n := ran.Of("auto 1"); n != 1 {
					t.Errorf("it ran %d times", n)
				}
				if err == nil {
					c.until(t, s, r.TaskID, "completed", 20*time.Second)
				}
				time.Sleep(time.Minute)
				idle(t, s)
			})
		})
	}
}

// A storm of cancellations at all replicas, while the work comes to its end, leaves one end.
func TestTaskCancelStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, ran := newTasks(t, 3)
		c := taskClient{caps: taskCaps}
		for n := range 10 {
			id := c.call(t, cl.Sites[n%3], "work", fmt.Sprintf(`{"ID":"%d","MS":1000}`, n)).TaskID
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					time.Sleep(time.Duration(990+i/2) * time.Millisecond)
					if r, err := c.do(t.Context(), cl.Sites[i%3], "tasks/cancel", id, fmt.Sprintf(`"taskId":%q`, id)); err != nil || r.Error != nil {
						t.Errorf("%v %+v", err, r)
					}
				})
			}
			all.Wait()
			time.Sleep(time.Second)
			first := c.get(t, cl.Sites[0], id)
			if first.State != "completed" && first.State != "cancelled" || ran.Of(fmt.Sprint("work ", n)) != 1 {
				t.Errorf("%+v", first)
			}
		}
	})
}
