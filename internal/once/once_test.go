package once_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
	"github.com/sluice-mcp/sluice/internal/wire"
)

const caps = `{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}`

// keyed sends calls with idempotency keys, on one revision.
type keyed struct {
	*sitetest.Client        // nil for 2026-07-28
	principal        string // "" is nobody
	token            string // progress token
}

// send begins a call. key goes into the header, or with "meta:" in front into _meta.
func (k keyed) send(ctx context.Context, at *sitetest.Site, id, key, tool, args string) (*sitetest.Response, error) {
	meta := fmt.Sprintf(`"progressToken":%q`, "t"+k.token)
	header := ""
	if inMeta, ok := strings.CutPrefix(key, "meta:"); ok {
		meta += fmt.Sprintf(`,"io.github.sluice-mcp/idempotencyKey":%q`, inMeta)
	} else {
		header = key
	}
	meta += k.rest()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{%s}}}`, id, tool, args, meta)
	return k.raw(ctx, at, body, map[string]string{"Idempotency-Key": header, "Mcp-Method": "tools/call", "Mcp-Name": tool})
}

// rest is what _meta has besides.
func (k keyed) rest() string {
	if k.Client != nil {
		return ""
	}
	return `,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":` + caps
}

func (k keyed) raw(ctx context.Context, at *sitetest.Site, body string, header map[string]string) (*sitetest.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1/mcp", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	header["Accept"], header["Content-Type"], header["X-Principal"] = sitetest.Accept, "application/json", k.principal
	header["Mcp-Protocol-Version"] = wire.Rev2026
	if k.Client != nil {
		header["Mcp-Protocol-Version"], header["Mcp-Session-Id"] = k.Version, k.Session
	}
	for name, v := range header {
		if v != "" {
			req.Header.Set(name, v)
		}
	}
	resp, err := at.RoundTrip(req) //nolint:bodyclose // the response's reader closes it
	if err != nil {
		return nil, err
	}
	return sitetest.NewResponse(resp), nil
}

// end returns what a call ends with, after its messages.
func (k keyed) end(t *testing.T, at *sitetest.Site, id, key, tool, args string) (text string, said []sitetest.Message) {
	t.Helper()
	a, err := k.send(t.Context(), at, id, key, tool, args)
	if err != nil {
		t.Fatal(err)
	}
	for {
		m := a.Message(t)
		if m.Method == "" {
			if got := wire.Unquote(m.ID); got != id {
				t.Errorf("the response is for %q, not %q", got, id)
			}
			return m.Text(), said
		}
		said = append(said, m)
	}
}

// onceServer has tools that count their calls.
func onceServer(ran *sitetest.Executions) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "once", Version: "1"}, nil)
	type input struct {
		ID string
		MS int
		N  int
	}
	add := func(name string, hints *mcp.ToolAnnotations, f func(context.Context, *mcp.CallToolRequest, input) (*mcp.CallToolResult, error)) {
		s.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`), Annotations: hints}, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			var in input
			if err := json.Unmarshal(req.Params.Arguments, &in); err != nil {
				return nil, err
			}
			ran.Add(name + " " + in.ID)
			return f(ctx, req, in)
		})
	}
	work := func(ctx context.Context, req *mcp.CallToolRequest, in input) (*mcp.CallToolResult, error) {
		for i := range max(in.N, 1) {
			select {
			case <-time.After(time.Duration(in.MS) * time.Millisecond):
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			if in.N > 0 {
				_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(i + 1)})
			}
		}
		return sitetest.Text(fmt.Sprintf("done %s, time %d", in.ID, ran.Of(req.Params.Name+" "+in.ID))), nil
	}
	add("pay", nil, work)
	add("refund", nil, work)
	add("read", &mcp.ToolAnnotations{ReadOnlyHint: true}, work)
	add("large", nil, func(_ context.Context, _ *mcp.CallToolRequest, in input) (*mcp.CallToolResult, error) {
		return sitetest.Text(strings.Repeat("x", in.N)), nil
	})
	add("fail", nil, func(_ context.Context, _ *mcp.CallToolRequest, in input) (*mcp.CallToolResult, error) {
		return nil, &wire.Error{Code: 7, Message: fmt.Sprint("failed ", ran.Of("fail "+in.ID)), Data: json.RawMessage(`{"a":1}`)}
	})
	add("unwritable", nil, func(context.Context, *mcp.CallToolRequest, input) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{}, StructuredContent: unwritable{}}, nil
	})
	add("log", nil, func(ctx context.Context, req *mcp.CallToolRequest, in input) (*mcp.CallToolResult, error) {
		time.Sleep(time.Second)
		_ = req.Session.Log(ctx, &mcp.LoggingMessageParams{Level: "info", Data: "x"})
		return sitetest.Text("logged"), nil
	})
	add("ask", nil, func(ctx context.Context, req *mcp.CallToolRequest, in input) (*mcp.CallToolResult, error) {
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if _, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: "?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{}}`)}); err != nil {
			return sitetest.Text("not asked"), nil
		}
		return sitetest.Text("asked"), nil
	})
	add("panic", nil, func(context.Context, *mcp.CallToolRequest, input) (*mcp.CallToolResult, error) { panic("by the tool") })
	return s
}

type unwritable struct{}

func (unwritable) MarshalJSON() ([]byte, error) { panic("by the type") }

// eachEra plays in every revision, over three replicas.
func eachEra(t *testing.T, opts sluice.Options, play func(t *testing.T, cl *sitetest.Cluster, k keyed, ran *sitetest.Executions)) {
	t.Helper()
	opts.Principal = func(r *http.Request) string { return r.Header.Get("X-Principal") }
	for _, version := range append([]string{wire.Rev2026}, sitetest.Revisions...) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ran := &sitetest.Executions{}
				cl := sitetest.NewCluster(t, 0, opts)
				for range 3 {
					cl.Add(onceServer(ran))
				}
				k := keyed{}
				if version != wire.Rev2026 {
					k.Client = sitetest.NewClient(version)
					k.Open(t, cl.Sites[0], cl.Sites[1])
				}
				play(t, cl, k, ran)
			})
		})
	}
}

func TestOnce(t *testing.T) {
	t.Parallel()
	eachEra(t, sluice.Options{}, func(t *testing.T, cl *sitetest.Cluster, k keyed, ran *sitetest.Executions) {
		n := 0
		check := func(at int, key, tool, args, want string) {
			t.Helper()
			n++
			if got, _ := k.end(t, cl.Sites[at], fmt.Sprint("c", n), key, tool, args); got != want {
				t.Errorf("call %d, %s %s with key %s: got %s, want %s", n, tool, args, key, got, want)
			}
		}
		check(0, "a", "pay", `{"ID":"1"}`, "done 1, time 1")
		check(0, "a", "pay", `{"ID":"1"}`, "done 1, time 1")
		check(1, "a", "pay", `{ "ID" : "1" }`, "done 1, time 1")
		check(2, `"a"`, "pay", `{"ID":"1"}`, "done 1, time 1")
		check(2, `meta:a`, "pay", `{"ID":"1"}`, "done 1, time 1")
		const other = `error {"code":-32602,"message":"Invalid params: the idempotency key was used with other arguments"}`
		check(0, "a", "pay", `{"ID":"2"}`, other)
		check(1, "a", "pay", `{"ID":"1","MS":0}`, other)
		check(1, "b", "pay", `{"ID":"1"}`, "done 1, time 2")
		check(1, "a", "refund", `{"ID":"1"}`, "done 1, time 1")
		check(1, "", "pay", `{"ID":"1"}`, "done 1, time 3")
		check(0, "", "pay", `{"ID":"1"}`, "done 1, time 4")
		check(0, "c", "fail", `{"ID":"1"}`, `error {"code":7,"message":"failed 1","data":{"a":1}}`)
		check(1, "c", "fail", `{"ID":"1"}`, `error {"code":7,"message":"failed 1","data":{"a":1}}`)
		for _, size := range []int{40 << 10, 3 << 20} {
			args := fmt.Sprintf(`{"N":%d}`, size)
			check(0, fmt.Sprint("l", size), "large", args, strings.Repeat("x", size))
			check(1, fmt.Sprint("l", size), "large", args, strings.Repeat("x", size))
		}
		first, _ := k.end(t, cl.Sites[0], "p1", "p", "panic", `{}`)
		again, _ := k.end(t, cl.Sites[1], "p2", "p", "panic", `{}`)
		if first != again || !strings.HasPrefix(first, "error ") || ran.Of("panic ") != 1 {
			t.Errorf("a panic: %s, then %s, after %d calls", first, again, ran.Of("panic "))
		}
		for i := range 3 {
			if got, _ := k.end(t, cl.Sites[i/2], fmt.Sprint("u", i), "u", "unwritable", `{}`); !strings.HasPrefix(got, "error ") || ran.Of("unwritable ") != 1 {
				t.Errorf("a result that cannot be written: %s, after %d calls", got, ran.Of("unwritable "))
			}
		}
		time.Sleep(11 * time.Minute)
		check(1, "a", "pay", `{"ID":"1"}`, "done 1, time 5")
	})
}

func TestOncePrincipals(t *testing.T) {
	t.Parallel()
	eachEra(t, sluice.Options{}, func(t *testing.T, cl *sitetest.Cluster, k keyed, ran *sitetest.Executions) {
		if k.Client != nil {
			return // a session belongs to one
		}
		for i, who := range []string{"ann", "bob", "ann", ""} {
			k.principal = who
			_, _ = k.end(t, cl.Sites[i%3], "c", "same", "pay", `{"ID":"1"}`)
		}
		if n := ran.Of("pay 1"); n != 3 {
			t.Errorf("three principals made %d calls", n)
		}
	})
}

func TestOnceBadKey(t *testing.T) {
	t.Parallel()
	eachEra(t, sluice.Options{}, func(t *testing.T, cl *sitetest.Cluster, k keyed, ran *sitetest.Executions) {
		for i, key := range []string{" ", `""`, "a b", "é", strings.Repeat("a", 256), "meta:", "meta:a b", "meta:\n"} {
			got, _ := k.end(t, cl.Sites[0], fmt.Sprint("c", i), key, "pay", `{"ID":"1"}`)
			if !strings.HasPrefix(got, `error {"code":-32602`) {
				t.Errorf("key %q: %s", key, got)
			}
		}
		a, err := k.raw(t.Context(), cl.Sites[0], `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","arguments":{"ID":"1"},"_meta":{"io.github.sluice-mcp/idempotencyKey":7`+k.rest()+`}}}`,
			map[string]string{"Mcp-Method": "tools/call", "Mcp-Name": "pay"})
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Message(t).Text(); !strings.HasPrefix(got, `error {"code":-32602`) {
			t.Errorf("key 7: %s", got)
		}
		a, err = k.raw(t.Context(), cl.Sites[0], `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"pay","arguments":{"ID":"1"},"_meta":{"io.github.sluice-mcp/idempotencyKey":"a"`+k.rest()+`}}}`,
			map[string]string{"Mcp-Method": "tools/call", "Mcp-Name": "pay", "Idempotency-Key": "b"})
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Message(t).Text(); !strings.HasPrefix(got, `error {"code":-32602`) {
			t.Errorf("two keys: %s", got)
		}
		if n := ran.Of("pay 1"); n != 0 {
			t.Errorf("called %d times", n)
		}
	})
}

// Who repeats a call while it runs gets what it says from then on, with a token of its own, and its outcome.
func TestOnceWhileItRuns(t *testing.T) {
	t.Parallel()
	eachEra(t, sluice.Options{}, func(t *testing.T, cl *sitetest.Cluster, k keyed, ran *sitetest.Executions) {
		type end struct {
			text string
			said []sitetest.Message
		}
		ends := make(chan end, 3)
		for i := range 3 {
			k := k
			k.token = fmt.Sprint(i)
			go func() {
				text, said := k.end(t, cl.Sites[i/2], fmt.Sprint("c", i), "a", "pay", `{"ID":"1","MS":1000,"N":10}`)
				for _, m := range said {
					if got := wire.Unquote(wire.Member(m.Params, "progressToken")); got != "t"+k.token {
						t.Errorf("client %d hears of token %s", i, got)
					}
				}
				ends <- end{text, said}
			}()
			time.Sleep(2500 * time.Millisecond)
		}
		for range 3 {
			e := <-ends
			if e.text != "done 1, time 1" {
				t.Error(e.text)
			}
		}
		if n := ran.Of("pay 1"); n != 1 {
			t.Errorf("called %d times", n)
		}
	})
}

// A call with a key goes on when its client has gone, who then finds the outcome at any replica.
func TestOnceSurvivesACut(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{100 * time.Millisecond, 2 * time.Second, 10 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			eachEra(t, sluice.Options{}, func(t *testing.T, cl *sitetest.Cluster, k keyed, ran *sitetest.Executions) {
				go func() {
					a, err := k.send(t.Context(), cl.Sites[0], "c1", "a", "pay", `{"ID":"1","MS":5000}`)
					if err == nil {
						_, _ = io.ReadAll(a.Body)
					}
				}()
				time.Sleep(after)
				cl.Sites[0].Cut()
				for i := range cl.Sites {
					if got, _ := k.end(t, cl.Sites[i], fmt.Sprint("again", i), "a", "pay", `{"ID":"1","MS":5000}`); got != "done 1, time 1" {
						t.Error(got)
					}
				}
				if n := ran.Of("pay 1"); n != 1 {
					t.Errorf("called %d times", n)
				}
			})
		})
	}
}

const lost = `error {"code":-31011`

func TestOnceWhenTheReplicaDies(t *testing.T) {
	t.Parallel()
	for tool, want := range map[string]string{"pay": lost, "read": "done 1, time 2"} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			eachEra(t, sluice.Options{}, func(t *testing.T, cl *sitetest.Cluster, k keyed, ran *sitetest.Executions) {
				args := `{"ID":"1","MS":5000}`
				go func() { _, _ = k.send(t.Context(), cl.Sites[0], "c1", "a", tool, args) }()
				time.Sleep(100 * time.Millisecond)
				cl.Sites[0].Kill()
				first, _ := k.end(t, cl.Sites[1], "c2", "a", tool, args)
				again, _ := k.end(t, cl.Sites[2], "c3", "a", tool, args)
				if !strings.HasPrefix(first, want) || again != first {
					t.Errorf("got %s, and then %s", first, again)
				}
			})
		})
	}
}

// That nobody knows what a call has done stays, also when the store does not say whether it has noted it.
func TestOnceWhenItIsUnsureThatTheReplicaDied(t *testing.T) {
	t.Parallel()
	eachEra(t, sluice.Options{}, func(t *testing.T, cl *sitetest.Cluster, k keyed, ran *sitetest.Executions) {
		args := `{"ID":"1","MS":5000}`
		_, _ = k.end(t, cl.Sites[1], "c0", "", "pay", `{"ID":"0"}`) // the session is here
		go func() { _, _ = k.send(t.Context(), cl.Sites[0], "c1", "a", "pay", args) }()
		time.Sleep(100 * time.Millisecond)
		cl.Sites[0].Kill()
		time.Sleep(10 * time.Second)
		cl.Sites[1].Tap.Decide(func(op string) sitetest.Fate {
			if op == "swap" {
				return sitetest.Unsure
			}
			return sitetest.Done
		})
		_, _ = k.end(t, cl.Sites[1], "c2", "a", "pay", args)
		cl.Sites[1].Tap.Decide(nil)
		time.Sleep(time.Minute)
		if got, _ := k.end(t, cl.Sites[2], "c3", "a", "pay", args); !strings.HasPrefix(got, lost) || ran.Of("pay 1") != 1 {
			t.Errorf("got %s after %d calls", got, ran.Of("pay 1"))
		}
	})
}

// A call is cancelled through a replica that waits for its end, too.
func TestOnceCancelledWhereItIsWaitedFor(t *testing.T) {
	t.Parallel()
	eachEra(t, sluice.Options{}, func(t *testing.T, cl *sitetest.Cluster, k keyed, _ *sitetest.Executions) {
		if k.Client != nil {
			return // there it is the request that is cancelled
		}
		args := `{"ID":"1","MS":60000}`
		for _, at := range cl.Sites[:2] {
			go func() { _, _ = k.send(t.Context(), at, "c1", "a", "pay", args) }()
			time.Sleep(100 * time.Millisecond)
		}
		body := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"c1","_meta":{"io.github.sluice-mcp/idempotencyKey":"a","io.github.sluice-mcp/tool":"pay"}}}`
		a, err := k.raw(t.Context(), cl.Sites[1], body, map[string]string{"Mcp-Method": "notifications/cancelled"})
		if err != nil {
			t.Fatal(err)
		}
		a.WantStatus(t, "cancelling", http.StatusAccepted)
		if got, _ := k.end(t, cl.Sites[2], "c2", "a", "pay", args); got != `error {"code":-32603,"message":"The call was cancelled by its client"}` {
			t.Error(got)
		}
	})
}

// Who repeats a call in another session, or request, is not asked what only the first can answer, nor told what he has not asked to hear.
func TestOnceIsRetoldToWhomItConcerns(t *testing.T) {
	t.Parallel()
	for tool, want := range map[string]string{"ask": "not asked", "log": "logged"} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			eachEra(t, sluice.Options{}, func(t *testing.T, cl *sitetest.Cluster, k keyed, _ *sitetest.Executions) {
				other := k
				if k.Client != nil {
					other.Client = sitetest.NewClient(k.Version)
					other.Open(t, cl.Sites[0], cl.Sites[0])
					k.Post(t, cl.Sites[0], sitetest.SetLevel("info")).Message(t)
				}
				go func() { _, _ = k.send(t.Context(), cl.Sites[0], "c1", "a", tool, `{}`) }()
				time.Sleep(100 * time.Millisecond)
				got, said := other.end(t, cl.Sites[0], "c2", "a", tool, `{}`)
				if got != want || len(said) != 0 {
					t.Errorf("got %s, after %v", got, said)
				}
			})
		})
	}
}

// A replica that was thought dead and wakes up tells its client what all others are told.
func TestOnceWhenTheReplicaSleeps(t *testing.T) {
	t.Parallel()
	eachEra(t, sluice.Options{}, func(t *testing.T, cl *sitetest.Cluster, k keyed, ran *sitetest.Executions) {
		args := `{"ID":"1","MS":2000}`
		ends := make(chan string, 1)
		go func() {
			text, _ := k.end(t, cl.Sites[0], "c1", "a", "pay", args)
			ends <- text
		}()
		time.Sleep(100 * time.Millisecond)
		cl.Sites[0].Freeze()
		first, _ := k.end(t, cl.Sites[1], "c2", "a", "pay", args)
		cl.Sites[0].Unfreeze()
		if got := <-ends; got != first || !strings.HasPrefix(first, lost) || ran.Of("pay 1") != 1 {
			t.Errorf("one is told %s, the other %s, after %d calls", got, first, ran.Of("pay 1"))
		}
	})
}

func TestOnceWithoutTheStore(t *testing.T) {
	t.Parallel()
	t.Run("before", func(t *testing.T) {
		t.Parallel()
		eachEra(t, sluice.Options{}, func(t *testing.T, cl *sitetest.Cluster, k keyed, ran *sitetest.Executions) {
			_, _ = k.end(t, cl.Sites[0], "c0", "", "pay", `{"ID":"0"}`) // the session is here
			for i, how := range []sitetest.Fate{sitetest.Failed, sitetest.Unsure} {
				cl.Sites[0].Tap.Decide(func(op string) sitetest.Fate {
					if op == "create" {
						return how
					}
					return sitetest.Done
				})
				a, err := k.send(t.Context(), cl.Sites[0], fmt.Sprint("c", i), "a", "pay", `{"ID":"1"}`)
				if err != nil {
					t.Fatal(err)
				}
				a.WantBusy(t, "without the store")
				if n := ran.Of("pay 1"); n != 0 {
					t.Errorf("called %d times", n)
				}
			}
			cl.Sites[0].Tap.Decide(nil)
			for i := range 2 {
				if got, _ := k.end(t, cl.Sites[1-i], fmt.Sprint("d", i), "a", "pay", `{"ID":"1"}`); got != "done 1, time 1" {
					t.Error(got)
				}
			}
		})
	})
	t.Run("after", func(t *testing.T) {
		t.Parallel()
		eachEra(t, sluice.Options{}, func(t *testing.T, cl *sitetest.Cluster, k keyed, ran *sitetest.Executions) {
			args := `{"ID":"1","MS":1000}`
			ends := make(chan string, 1)
			go func() {
				text, _ := k.end(t, cl.Sites[0], "c1", "a", "pay", args)
				ends <- text
			}()
			time.Sleep(500 * time.Millisecond)
			for _, s := range cl.Sites {
				s.Tap.GoAway()
			}
			time.Sleep(20 * time.Second)
			go func() {
				text, _ := k.end(t, cl.Sites[0], "c2", "a", "pay", args)
				ends <- text
			}()
			for _, s := range cl.Sites {
				s.Tap.ComeBack()
			}
			time.Sleep(10 * time.Second)
			third, _ := k.end(t, cl.Sites[1], "c3", "a", "pay", args)
			for _, got := range []string{<-ends, <-ends, third} {
				if got != "done 1, time 1" {
					t.Error(got)
				}
			}
			if n := ran.Of("pay 1"); n != 1 {
				t.Errorf("called %d times", n)
			}
		})
	})
}

// A client of 2026-07-28 that does not come back says so, at any replica.
func TestOnceCancelled(t *testing.T) {
	t.Parallel()
	eachEra(t, sluice.Options{}, func(t *testing.T, cl *sitetest.Cluster, k keyed, ran *sitetest.Executions) {
		args := `{"ID":"1","MS":60000}`
		ctx, leave := context.WithCancel(t.Context())
		go func() { _, _ = k.send(ctx, cl.Sites[0], "c1", "a", "pay", args) }()
		time.Sleep(100 * time.Millisecond)
		leave()
		body := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"c1","_meta":{"io.github.sluice-mcp/idempotencyKey":"a","io.github.sluice-mcp/tool":"pay"}}}`
		a, err := k.raw(t.Context(), cl.Sites[1], body, map[string]string{"Mcp-Method": "notifications/cancelled"})
		if err != nil {
			t.Fatal(err)
		}
		a.WantStatus(t, "cancelling", http.StatusAccepted)
		began := time.Now()
		got, _ := k.end(t, cl.Sites[2], "c2", "a", "pay", args)
		if got != `error {"code":-32603,"message":"The call was cancelled by its client"}` || time.Since(began) > 5*time.Second {
			t.Errorf("after %v: %s", time.Since(began), got)
		}
	})
}

// TestOnceUnderTrouble has clients repeat their calls, at any replica, while replicas die, sleep and lose the store. Whatever happens, a call
// with a key runs once, and all who ask are told the same.
func TestOnceUnderTrouble(t *testing.T) {
	t.Parallel()
	for seed := range sitetest.EnvInt("SLUICE_ONCE_SCHEDULES", 60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { onceUnderTrouble(t, uint64(seed)) })
		})
	}
}

func onceUnderTrouble(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 11))
	ran := &sitetest.Executions{}
	cl := sitetest.NewCluster(t, 0, sluice.Options{Principal: func(r *http.Request) string { return r.Header.Get("X-Principal") }})
	launch := func() *sitetest.Site { return cl.Add(onceServer(ran)) }
	live := []*sitetest.Site{launch(), launch(), launch()}
	var mu sync.Mutex
	pick := func() *sitetest.Site {
		mu.Lock()
		defer mu.Unlock()
		return live[rng.IntN(len(live))]
	}
	chance := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rng.IntN(n)
	}
	var clients sync.WaitGroup
	told := make(map[string]map[string]bool) // by key
	over := make(chan struct{})
	for i := range 4 {
		clients.Go(func() {
			for call := range 12 {
				key, tool := fmt.Sprintf("%d.%d", i/2, call), "pay" // two clients share each key
				if call%3 == 0 {
					tool = "read"
				}
				args := fmt.Sprintf(`{"ID":%q,"MS":%d}`, key, 100*(call%7))
				for try := 0; ; try++ {
					if try > 200 {
						t.Errorf("key %s has no end", key)
						return
					}
					ctx, cancel := context.WithCancel(t.Context())
					time.AfterFunc(time.Duration(1+chance(5000))*time.Millisecond, cancel)
					text, err := onceTry(ctx, pick(), fmt.Sprintf("%d.%d.%d", i, call, try), key, tool, args)
					cancel()
					if err != nil || strings.HasPrefix(text, `error {"code":-31010`) {
						time.Sleep(time.Duration(chance(500)) * time.Millisecond)
						continue
					}
					mu.Lock()
					if told[key] == nil {
						told[key] = make(map[string]bool)
					}
					told[key][text] = true
					mu.Unlock()
					if chance(3) > 0 { // else once more: it is the same
						break
					}
				}
			}
		})
	}
	go func() {
		clients.Wait()
		close(over)
	}()
	for {
		select {
		case <-over:
			for key, texts := range told {
				for text := range texts {
					if len(texts) > 1 {
						t.Errorf("key %s: %q, and else %d", key, text, len(texts)-1)
					}
					if !strings.HasPrefix(text, "done "+key) && !strings.HasPrefix(text, lost) {
						t.Errorf("key %s: %s", key, text)
					}
				}
				if n := ran.Of("pay " + key); n > 1 {
					t.Errorf("key %s was executed %d times", key, n)
				}
			}
			return
		case <-time.After(time.Duration(200+chance(2000)) * time.Millisecond):
		}
		at := pick()
		switch chance(5) {
		case 0:
			at.Kill()
			next := launch()
			mu.Lock()
			live[slices.Index(live, at)] = next
			mu.Unlock()
		case 1:
			at.Freeze()
			time.Sleep(time.Duration(chance(6000)) * time.Millisecond)
			at.Unfreeze()
		case 2:
			at.Tap.GoAway()
			time.Sleep(time.Duration(chance(4000)) * time.Millisecond)
			at.Tap.ComeBack()
		case 3:
			at.Cut()
		case 4:
			for _, s := range live {
				s.Tap.GoAway()
			}
			time.Sleep(time.Duration(chance(2000)) * time.Millisecond)
			for _, s := range live {
				s.Tap.ComeBack()
			}
		}
	}
}

// onceTry sends a call of 2026-07-28. An error says that there was no answer.
func onceTry(ctx context.Context, at *sitetest.Site, id, key, tool, args string) (string, error) {
	a, err := keyed{}.send(ctx, at, id, key, tool, args)
	if err != nil {
		return "", err
	}
	defer a.Leave()
	if !a.Stream() {
		body, err := io.ReadAll(a.Body)
		if err != nil {
			return "", err
		}
		var m sitetest.Message
		if err := json.Unmarshal(body, &m); err != nil {
			return "", err
		}
		return m.Text(), nil
	}
	for {
		e, err := a.Next()
		if err != nil {
			return "", err
		}
		if m := e.Message(); e.Data != "" && m.Method == "" {
			return m.Text(), nil
		}
	}
}

// What a key costs in commands of the store: one before the tool is called, two after it, and two for one who comes back.
func TestOnceRoundTrips(t *testing.T) {
	t.Parallel()
	eachEra(t, sluice.Options{}, func(t *testing.T, cl *sitetest.Cluster, k keyed, _ *sitetest.Executions) {
		for _, s := range cl.Sites {
			_, _ = k.end(t, s, "warm", "", "pay", `{"ID":"0"}`)
		}
		for i, c := range []struct {
			at   int
			key  string
			want map[string]int
		}{
			{0, "", map[string]int{}},
			{0, "a", map[string]int{"create": 1, "get": 1, "swap": 1}},
			{0, "a", map[string]int{"create": 1, "get": 1}},
			{1, "a", map[string]int{"create": 1, "get": 1}},
		} {
			cl.Sites[c.at].Tap.Spent()
			_, _ = k.end(t, cl.Sites[c.at], fmt.Sprint("c", i), c.key, "pay", `{"ID":"1"}`)
			got := cl.Sites[c.at].Tap.Spent()
			delete(got, "lease") // by the clock
			if !maps.Equal(got, c.want) {
				t.Errorf("call %d: %v, want %v", i, got, c.want)
			}
		}
	})
}
