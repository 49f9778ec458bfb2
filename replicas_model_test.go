package sluice_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/sitetest"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

var (
	schedules    = flag.Int("schedules", sitetest.EnvInt("SLUICE_SCHEDULES", 0), "how many random schedules to play (0: 100 to 300, a tenth with -short)")
	scheduleSeed = flag.Uint64("schedule-seed", uint64(sitetest.EnvInt("SLUICE_SCHEDULE_SEED", 0)), "play only the schedule with this seed")
)

// TestOwnership plays random schedules of everything that can befall replicas, in virtual time, and looks whether
// the promises hold: every call ends in exactly one response; events come in order and once, and are the same on every
// replica; a log has one writer at a time; what may not run twice does not.
//
// A schedule is given by its seed, up to what the runtime's scheduler adds.
func TestOwnership(t *testing.T) {
	n, sum := playMany(t, everything, 300)
	if n >= 100 && (sum.takeovers.Load() == 0 || sum.fenced.Load() == 0 || sum.lost.Load() == 0 || sum.unknown.Load() == 0) {
		t.Errorf("the schedules did not try everything: %v", sum)
	}
}

// TestRollingRestarts plays schedules with nothing but orderly stops, with a grace period that is longer than any call: nothing may go wrong.
func TestRollingRestarts(t *testing.T) {
	if _, sum := playMany(t, onlyDrains, 100); sum.lost.Load()+sum.unknown.Load() > 0 {
		t.Errorf("orderly stops lost calls: %v", sum)
	}
}

// TestStoreTrouble plays schedules in which only the store fails: it is away for all, and its answers get lost. Since
// every replica lives, no call may be taken from it.
func TestStoreTrouble(t *testing.T) {
	if _, sum := playMany(t, onlyOutages, 100); sum.lost.Load() > 0 {
		t.Errorf("calls were taken from replicas that live: %v", sum)
	}
}

// playMany plays schedules until one fails.
func playMany(t *testing.T, kind trouble, n int) (played int, sum *tally) {
	first := uint64(time.Now().UnixNano())
	switch {
	case *scheduleSeed != 0:
		n, first = 1, *scheduleSeed
	case *schedules != 0:
		n = *schedules
	case testing.Short():
		n /= 10
	}
	sum = new(tally)
	for i := range n {
		seed := first + uint64(i)
		synctest.Test(t, func(t *testing.T) { play(t, seed, kind, sum) })
		if t.Failed() {
			t.Fatalf("after %d schedules; again with: go test -run %s -schedule-seed %d .", i, t.Name(), seed)
		}
	}
	t.Logf("%d schedules: %v", n, sum)
	return n, sum
}

// tally is what schedules did.
type tally struct {
	calls, results, lost, unknown, resumes, takeovers, fenced atomic.Int64
}

func (s *tally) String() string {
	return fmt.Sprintf("%d calls, %d results, %d lost, %d of unknown outcome; %d resumed, %d taken over, %d appends fenced off",
		s.calls.Load(), s.results.Load(), s.lost.Load(), s.unknown.Load(), s.resumes.Load(), s.takeovers.Load(), s.fenced.Load())
}

type trouble int

const (
	everything trouble = iota
	onlyDrains
	onlyOutages
	amongTasks
)

// world is one schedule.
type world struct {
	t      *testing.T
	seed   uint64
	kind   trouble
	sum    *tally
	shared *memory.Memory
	audit  *audit
	start  time.Time
	opts   sluice.Options
	model  func() *mcp.Server // what each replica serves
	player func(ctx context.Context, rng *rand.Rand, n int)
	settle func() // looks whether all is well again; nil: nothing to see

	mu      sync.Mutex
	sites   []*sitetest.Site
	born    int
	ran     map[string]int    // executions by key
	seen    map[string]string // data by event ID
	ids     int
	pending map[string]bool // calls
	dropped map[string]bool // streams whose log the store has lost
	script  []string
	books   []*sitetest.Ledger // of each process
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.script = append(w.script, fmt.Sprintf("%8.3f ", time.Since(w.start).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) errorf(format string, args ...any) {
	w.note("WRONG: "+format, args...)
	w.t.Errorf(format, args...)
}

func play(t *testing.T, seed uint64, kind trouble, sum *tally) {
	w := &world{
		t: t, seed: seed, kind: kind, sum: sum, shared: memory.New(), audit: newAudit(), start: time.Now(),
		ran: make(map[string]int), seen: make(map[string]string), pending: make(map[string]bool), dropped: make(map[string]bool),
	}
	w.model, w.player = w.server, w.session
	if kind == amongTasks {
		w.playTasks()
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	w.sites = make([]*sitetest.Site, 2+rng.IntN(3))
	for i := range w.sites {
		w.sites[i] = w.launch(i)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	length := time.Duration(2+rng.IntN(15)) * time.Second
	quiet := make(chan struct{}) // closed when trouble ends
	var players, troubles sync.WaitGroup
	for i := range 2 + rng.IntN(3) {
		players.Go(func() { w.player(ctx, rand.New(rand.NewPCG(seed, uint64(1+i))), i) })
	}
	troubles.Go(func() { w.makeTrouble(rng, quiet) })
	time.Sleep(length)
	close(quiet)
	troubles.Wait()
	w.note("all is well again")
	finished := make(chan struct{})
	go func() {
		players.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-time.After(3 * time.Minute):
		w.mu.Lock()
		still := slices.Sorted(maps.Keys(w.pending))
		w.mu.Unlock()
		w.errorf("calls have not ended 3 minutes after the last trouble: %v", still)
	}
	if w.settle != nil {
		w.settle()
	}
	cancel()
	for _, s := range w.sites {
		s.Kill()
	}
	players.Wait()
	_ = w.shared.Close()
	time.Sleep(10 * time.Second) // what was asked to end does; time stops with the test
	w.judge()
}

// judge looks at what was noted. Some goroutines may still be on their way out.
func (w *world) judge() {
	w.audit.mu.Lock()
	wrong := slices.Clone(w.audit.wrong)
	w.sum.fenced.Add(int64(w.audit.stale))
	w.sum.takeovers.Add(int64(len(w.audit.claimed)))
	w.audit.mu.Unlock()
	w.mu.Lock()
	for key, n := range w.ran {
		if n > 1 {
			wrong = append(wrong, fmt.Sprintf("%s was executed %d times", key, n))
		}
	}
	books := slices.Clone(w.books)
	w.mu.Unlock()
	for _, l := range books {
		wrong = append(wrong, l.Unbalanced()...)
	}
	for _, what := range wrong {
		w.errorf("%s", what)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t.Failed() {
		w.t.Logf("seed %d:\n%s", w.seed, strings.Join(w.script, "\n"))
	}
}

// launch starts a process for a place behind the balancer.
func (w *world) launch(i int) *sitetest.Site {
	w.mu.Lock()
	w.born++
	name := fmt.Sprintf("%d#%d", i, w.born)
	rng := rand.New(rand.NewPCG(w.seed, 1000+uint64(w.born)))
	w.mu.Unlock()
	way := sitetest.NewTap(&audited{w.shared, w.audit, name})
	var mu sync.Mutex
	way.Before = func(op string) sitetest.Fate {
		mu.Lock()
		d := time.Duration(rng.IntN(3000)) * time.Microsecond
		n := rng.IntN(1000)
		mu.Unlock()
		switch {
		case w.kind == onlyDrains:
			n = 999
		case n < 5:
			d = time.Duration(n) * 300 * time.Millisecond
		}
		if n < 15 {
			w.note("%s: %s takes %v, fate %d", name, op, d, n/5)
		}
		time.Sleep(d)
		switch {
		case n < 15 && n >= 10:
			return sitetest.Failed
		case n < 10 && n >= 5:
			return sitetest.Unsure
		}
		return sitetest.Done
	}
	book := sitetest.NewLedger(w.t)
	w.mu.Lock()
	w.books = append(w.books, book)
	w.mu.Unlock()
	server, opts := w.model(), w.opts
	opts.Observer = book
	opts.KeepAlive, opts.Logger = time.Second, slog.New(slog.NewTextHandler(scribe{w, name}, nil))
	return sitetest.NewSite(w.t, name, way, opts, func() *mcp.Server { return server })
}

// scribe writes a replica's log into the script.
type scribe struct {
	w    *world
	name string
}

func (s scribe) Write(line []byte) (int, error) {
	_, text, _ := strings.Cut(strings.TrimSpace(string(line)), "level=")
	s.w.note("%s: %s", s.name, text)
	return len(line), nil
}

// makeTrouble does one thing after the other, some of them at the same time, until quiet.
func (w *world) makeTrouble(rng *rand.Rand, quiet <-chan struct{}) {
	var busy sync.WaitGroup
	defer busy.Wait()
	var mu sync.Mutex
	taken := make([]bool, len(w.sites))
	for {
		select {
		case <-quiet:
			return
		case <-time.After(between(rng, 20*time.Millisecond, 2*time.Second)):
		}
		i := rng.IntN(len(w.sites))
		mu.Lock()
		free := !taken[i]
		if free {
			taken[i] = true
		}
		mu.Unlock()
		if !free {
			continue
		}
		what, long := rng.IntN(8), between(rng, 20*time.Millisecond, 8*time.Second)
		switch w.kind {
		case amongTasks:
			what %= 7 // a log that is lost takes the parameters of a task with it
		case onlyDrains:
			what = 2
		case onlyOutages:
			what = 4 + what%4 // also connections, notes and logs
		}
		pause := between(rng, 0, 3*time.Second)
		moment := between(rng, 0, 20*time.Millisecond)
		busy.Go(func() {
			w.befall(i, what, long, pause, moment)
			mu.Lock()
			taken[i] = false
			mu.Unlock()
		})
	}
}

func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	// Short ones are as likely as long ones: most races are between things that come soon after each other.
	f := rng.Float64()
	return from + time.Duration(f*f*float64(to-from))
}

func (w *world) site(i int) *sitetest.Site {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sites[i]
}

func (w *world) befall(i, what int, long, pause, moment time.Duration) {
	s := w.site(i)
	restart := func() {
		time.Sleep(pause)
		n := w.launch(i)
		w.note("%s starts", n.Name)
		w.mu.Lock()
		w.sites[i] = n
		w.mu.Unlock()
	}
	switch what {
	case 0:
		w.note("%s is killed", s.Name)
		s.Kill()
		restart()
	case 1:
		w.note("%s is stopped for %v", s.Name, long)
		s.Freeze()
		time.Sleep(long)
		s.Unfreeze()
		w.note("%s goes on", s.Name)
	case 2:
		grace := long
		if w.kind == onlyDrains {
			grace = time.Minute
		}
		w.note("%s drains for %v", s.Name, grace)
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		err := s.Handler.Drain(ctx)
		cancel()
		w.note("%s has drained: %v", s.Name, err)
		if err != nil {
			_ = s.Handler.Close()
			time.Sleep(moment)
		}
		s.Shut(2 * time.Second)
		_ = s.Handler.Close()
		s.Kill()
		restart()
	case 3:
		w.note("%s loses the store for %v", s.Name, long)
		s.Tap.GoAway()
		time.Sleep(long)
		s.Tap.ComeBack()
		w.note("%s has the store again", s.Name)
	case 4:
		w.note("the store is away for %v", long)
		all := w.each(func(s *sitetest.Site) { s.Tap.GoAway() })
		time.Sleep(long)
		for _, s := range all {
			time.Sleep(moment) // they come back one after the other
			s.Tap.ComeBack()
		}
		w.note("the store is back")
	case 5:
		w.note("%s loses its clients", s.Name)
		s.Cut()
	case 6:
		if w.kind == onlyOutages {
			pause /= 10 // longer ones are deaths to others
		}
		w.note("%s loses notes for %v", s.Name, pause/4)
		s.Tap.LoseNotes(pause / 4)
	case 7:
		w.loseLog(moment)
	}
}

// loseLog has the store lose the log of a call's stream, and now and then what it is registered with.
func (w *world) loseLog(moment time.Duration) {
	w.audit.mu.Lock()
	logs := slices.Sorted(maps.Keys(w.audit.writers))
	w.audit.mu.Unlock()
	logs = slices.DeleteFunc(logs, func(log string) bool {
		return session.IsStandalone(log[strings.LastIndexByte(log, ':')+1:])
	})
	if len(logs) == 0 {
		return
	}
	log := logs[int(moment)%len(logs)]
	w.note("the store loses %s", log)
	w.mu.Lock()
	w.dropped[log[strings.LastIndexByte(log, ':')+1:]] = true
	w.mu.Unlock()
	if _ = w.shared.Drop(context.Background(), log); moment%4 == 0 {
		w.note("and its registration: whoever is first to register it again is its writer")
		w.audit.mu.Lock()
		defer w.audit.mu.Unlock()
		_ = w.shared.Delete(context.Background(), "run:"+strings.TrimPrefix(log, "stream:"))
		delete(w.audit.writers, log)
	}
}

func (w *world) lost(stream string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped[stream]
}

func (w *world) each(f func(*sitetest.Site)) []*sitetest.Site {
	w.mu.Lock()
	all := append([]*sitetest.Site(nil), w.sites...)
	w.mu.Unlock()
	for _, s := range all {
		f(s)
	}
	return all
}

// server has a tool of each kind. They say 1, 2, 3, … and come to a result.
func (w *world) server() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "model", Version: "1"}, nil)
	type input struct {
		Key string
		N   int
		MS  int
	}
	add := func(name string, repeatable bool, f func(ctx context.Context, req *mcp.CallToolRequest, in input) (string, error)) {
		server.AddTool(&mcp.Tool{
			Name: name, InputSchema: json.RawMessage(`{"type":"object"}`),
			Annotations: &mcp.ToolAnnotations{IdempotentHint: repeatable},
		}, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			var in input
			if err := json.Unmarshal(req.Params.Arguments, &in); err != nil {
				return nil, err
			}
			out, err := f(ctx, req, in)
			if err != nil {
				return nil, err
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: out}}}, nil
		})
	}
	count := func(ctx context.Context, req *mcp.CallToolRequest, in input) (string, error) {
		for i := 1; i <= in.N; i++ {
			select {
			case <-time.After(time.Duration(in.MS) * time.Millisecond):
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
			_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(i)})
		}
		return "counted " + strconv.Itoa(in.N), nil
	}
	add("count", true, count)
	add("charge", false, func(ctx context.Context, req *mcp.CallToolRequest, in input) (string, error) {
		w.mu.Lock()
		w.ran[in.Key]++
		w.mu.Unlock()
		return count(ctx, req, in)
	})
	add("ask", true, func(ctx context.Context, req *mcp.CallToolRequest, in input) (string, error) {
		res, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: in.Key, RequestedSchema: json.RawMessage(`{"type":"object","properties":{"x":{"type":"string"}}}`)})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("asked %v", res.Content["x"]), nil
	})
	return server
}

// session is a client with a few calls, some of them at the same time.
func (w *world) session(ctx context.Context, rng *rand.Rand, n int) {
	versions := []string{wire.Rev0326, wire.Rev0618, wire.Rev1125}
	c := &sitetest.Client{Version: versions[rng.IntN(3)], Caps: `{"elicitation":{}}`}
	if !w.open(ctx, c, rng) {
		return
	}
	var calls sync.WaitGroup
	for range 3 + rng.IntN(5) {
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		calls.Go(func() { w.call(ctx, c, own, n) })
		time.Sleep(between(rng, 0, 3*time.Second))
	}
	calls.Wait()
}

func (w *world) open(ctx context.Context, c *sitetest.Client, rng *rand.Rand) bool {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":%q,"capabilities":%s,"clientInfo":{"name":"t","version":"1"}}}`, c.Version, c.Caps)
	for {
		resp := w.send(ctx, c, rng, body)
		if resp == nil {
			return false
		}
		if resp.StatusCode == http.StatusOK {
			if _, err := io.ReadAll(resp.Body); err == nil {
				c.Session = resp.Header.Get("Mcp-Session-Id")
				break
			}
		}
		resp.Leave()
	}
	resp := w.send(ctx, c, rng, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	if resp == nil {
		return false
	}
	resp.Leave()
	return true
}

// send posts a message to one replica after the other until somebody answers, whatever the outcome; it must be one that may be sent again. Nil: ctx is over.
func (w *world) send(ctx context.Context, c *sitetest.Client, rng *rand.Rand, body string) *sitetest.Response {
	for ctx.Err() == nil {
		at := w.site(rng.IntN(len(w.sites)))
		resp, err := c.Do(ctx, at, http.MethodPost, body, "")
		if err == nil && resp.StatusCode/100 == 2 {
			w.note("%s took %.60s", at.Name, body)
			return sitetest.NewResponse(resp)
		}
		if err == nil {
			if resp.StatusCode != http.StatusServiceUnavailable {
				text, _ := io.ReadAll(resp.Body)
				w.errorf("%.60s: status %d: %s", body, resp.StatusCode, text)
				return nil
			}
			w.checkBusy(resp)
			_ = resp.Body.Close()
		}
		time.Sleep(between(rng, 0, 200*time.Millisecond))
	}
	return nil
}

func (w *world) checkBusy(resp *http.Response) {
	if resp.Header.Get("Retry-After") == "" {
		text, _ := io.ReadAll(resp.Body)
		w.errorf("503 without Retry-After: %s", text)
	}
}

// call makes one call, whatever it takes, and judges what comes of it.
func (w *world) call(ctx context.Context, c *sitetest.Client, rng *rand.Rand, n int) {
	w.sum.calls.Add(1)
	names := []string{"count", "charge", "ask"}
	name := names[rng.IntN(3)]
	steps, ms := rng.IntN(12), rng.IntN(500)
	want := "counted " + strconv.Itoa(steps)
	if name == "ask" {
		want = "asked yes"
	}
	for try := 0; ctx.Err() == nil; try++ {
		w.mu.Lock()
		w.ids++
		id := fmt.Sprintf("%s-%d-%d", name, n, w.ids)
		w.pending[id] = true
		w.mu.Unlock()
		k := &chase{world: w, Client: c, rng: rng, id: id, steps: steps}
		m, err := k.run(ctx, sitetest.Call(id, name, fmt.Sprintf(`{"key":%q,"n":%d,"ms":%d}`, id, steps, ms)))
		w.mu.Lock()
		delete(w.pending, id)
		w.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errUnknown):
			if name == "charge" {
				w.sum.unknown.Add(1)
				return
			}
			w.note("%s: unknown, again", id)
			continue
		case err != nil:
			w.errorf("%s: %v", id, err)
		case m.Text() == want:
			w.sum.results.Add(1)
			if name != "ask" && k.stream && k.progress != steps {
				w.errorf("%s: %d of %d steps were told", id, k.progress, steps)
			}
		case name == "charge" && strings.Contains(m.Text(), strconv.Itoa(wire.CodeReplicaLost)):
			if w.sum.lost.Add(1); w.kind == onlyOutages {
				w.errorf("%s was taken from a replica that lives", id)
			}
		case w.kind == everything && strings.Contains(m.Text(), "The server was shut down before"):
			// The grace period of a replica ended while the call's stream was not kept: in an outage, or not yet.
			if name != "charge" {
				continue
			}
			w.sum.lost.Add(1)
		default:
			w.errorf("%s: want %q, got %s", id, want, m.Text())
		}
		w.note("%s: %s", id, m.Text())
		return
	}
}

var errUnknown = errors.New("connection lost before an event ID was seen")

// chase follows one call over as many connections and replicas as it takes.
type chase struct {
	*world
	*sitetest.Client
	rng      *rand.Rand
	id       string
	steps    int
	last     string
	index    int64
	progress int
	stream   bool
	loose    bool // it was shown what is in no log: that may come again

	resumable atomic.Bool
}

func (k *chase) run(ctx context.Context, body string) (sitetest.Message, error) {
	var resp *http.Response
	for {
		s := k.site(k.rng.IntN(len(k.sites)))
		var err error
		if resp, err = k.Do(ctx, s, http.MethodPost, body, ""); err == nil {
			k.note("%s: at %s, %d %s", k.id, s.Name, resp.StatusCode, resp.Header.Get("Content-Type"))
			if resp.StatusCode == http.StatusServiceUnavailable { // not begun
				k.checkBusy(resp)
				_ = resp.Body.Close()
				time.Sleep(between(k.rng, 0, time.Second))
				continue
			}
			break
		}
		if ctx.Err() != nil || !errors.Is(err, syscall.ECONNREFUSED) {
			return sitetest.Message{}, errUnknown
		}
		time.Sleep(between(k.rng, 0, 100*time.Millisecond))
	}
	for {
		m, ok, err := k.read(ctx, resp)
		if ok || err != nil {
			return m, err
		}
		if resp, err = k.resume(ctx); err != nil { //nolint:bodyclose // read closes it
			return sitetest.Message{}, err
		}
	}
}

// resume goes on with the stream at any replica; now and then at two of them.
func (k *chase) resume(ctx context.Context) (*http.Response, error) {
	for {
		time.Sleep(between(k.rng, 0, 400*time.Millisecond))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if k.rng.IntN(6) == 0 {
			shadow, last := k.site(k.rng.IntN(len(k.sites))), k.last
			d := between(k.rng, 0, 2*time.Second)
			go k.peek(ctx, shadow, last, d)
		}
		s := k.site(k.rng.IntN(len(k.sites)))
		resp, err := k.Do(ctx, s, http.MethodGet, "", k.last)
		if err != nil {
			continue
		}
		k.note("%s: resumed at %s after %s, %d", k.id, s.Name, k.last, resp.StatusCode)
		switch resp.StatusCode {
		case http.StatusOK:
			k.sum.resumes.Add(1)
			return resp, nil
		case http.StatusServiceUnavailable:
			k.checkBusy(resp)
			_ = resp.Body.Close()
		default:
			text, _ := io.ReadAll(resp.Body)
			if stream, _, _ := wire.ParseEventID(k.last); resp.StatusCode == http.StatusBadRequest && k.lost(stream) {
				return nil, errUnknown // it says so
			}
			return nil, fmt.Errorf("resuming at %s: %d %s", s.Name, resp.StatusCode, text)
		}
	}
}

// peek is a second connection for the same stream.
func (k *chase) peek(ctx context.Context, s *sitetest.Site, last string, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	resp, err := k.Do(ctx, s, http.MethodGet, "", last)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = resp.Body.Close() })()
	a := sitetest.NewResponse(resp)
	for resp.StatusCode == http.StatusOK {
		e, err := a.Next()
		if err != nil {
			return
		}
		k.same(e)
	}
	a.Leave()
}

// same checks that an event is the same whoever shows it.
func (w *world) same(e sitetest.Event) {
	if e.ID == "" {
		return
	}
	w.mu.Lock()
	data, known := w.seen[e.ID]
	w.seen[e.ID] = e.Data
	w.mu.Unlock()
	if stream, _, _ := wire.ParseEventID(e.ID); known && data != e.Data && !w.lost(stream) {
		w.errorf("event %s was %s and is %s", e.ID, data, e.Data)
	}
}

// read reads one connection. ok: it has brought the response.
func (k *chase) read(ctx context.Context, resp *http.Response) (m sitetest.Message, ok bool, err error) {
	leave := func() { _ = resp.Body.Close() }
	defer leave()
	const idle = 3 * time.Second // three keep-alives
	timer := time.AfterFunc(idle, leave)
	defer timer.Stop()
	shown := *resp
	shown.Body = readFunc{resp.Body, func() { timer.Reset(idle) }}
	a := sitetest.NewResponse(&shown)
	if !a.Stream() {
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return m, false, errUnknown
		}
		if err := json.Unmarshal(text, &m); err != nil || resp.StatusCode != http.StatusOK {
			return m, false, fmt.Errorf("status %d: %s", resp.StatusCode, text)
		}
		return m, true, nil
	}
	k.stream = true
	if k.rng.IntN(2) == 0 { // the client's own connection is not the best either
		defer time.AfterFunc(between(k.rng, 0, 4*time.Second), func() {
			if k.kind == everything || k.resumable.Load() {
				leave()
			}
		}).Stop()
	}
	answered := false
	for {
		e, err := a.Next()
		if err != nil {
			switch {
			case answered:
				return m, true, nil
			case k.last == "":
				return m, false, errUnknown
			}
			return m, false, nil
		}
		if answered && e.Data != "" {
			return m, false, fmt.Errorf("%s came after the response", e.Data)
		}
		if err := k.inOrder(e); err != nil {
			return m, false, err
		}
		if e.Data == "" {
			continue
		}
		switch got := e.Message(); got.Method {
		case "notifications/progress":
			var p struct{ Progress int }
			_ = json.Unmarshal(got.Params, &p)
			if stream, _, _ := wire.ParseEventID(k.last); p.Progress != k.progress+1 && !k.loose && !k.lost(stream) {
				return m, false, fmt.Errorf("progress %d after %d", p.Progress, k.progress)
			}
			k.progress = max(k.progress, p.Progress)
		case "elicitation/create":
			rng := rand.New(rand.NewPCG(k.rng.Uint64(), 0))
			go func() {
				if resp := k.send(ctx, k.Client, rng, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"accept","content":{"x":"yes"}}}`, got.ID)); resp != nil {
					k.note("%s: answered %s, %d", k.id, got.ID, resp.StatusCode)
					resp.Leave()
				}
			}()
		case "":
			if string(got.ID) != strconv.Quote(k.id) {
				return m, false, fmt.Errorf("a response to %s", got.ID)
			}
			m, answered = got, true
		default:
			return m, false, fmt.Errorf("unexpected %s", got.Method)
		}
	}
}

func (k *chase) inOrder(e sitetest.Event) error {
	if e.ID == "" {
		k.loose = k.loose || e.Data != "" && k.last != "" // else it is a stream without IDs
		return nil
	}
	k.same(e)
	stream, index, ok := wire.ParseEventID(e.ID)
	if !ok {
		return fmt.Errorf("event ID %q", e.ID)
	}
	if k.last != "" {
		if before, _, _ := wire.ParseEventID(k.last); before != stream {
			return fmt.Errorf("event %s after %s", e.ID, k.last)
		}
		if index <= k.index {
			return fmt.Errorf("event %s again, after %s", e.ID, k.last)
		}
	}
	k.last, k.index = e.ID, index
	k.resumable.Store(true)
	return nil
}

// readFunc calls f whenever something was read.
type readFunc struct {
	io.ReadCloser
	f func()
}

func (r readFunc) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.f()
	return n, err
}

// audited is one replica's way to the store, where somebody looks on.
type audited struct {
	store.Store
	audit   *audit
	replica string
}

func (a *audited) Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) error {
	err := a.Store.Swap(ctx, key, old, value, ttl)
	if err == nil {
		a.audit.swapped(a.replica, key)
	}
	return err
}

func (a *audited) Append(ctx context.Context, log string, at int64, entries [][]byte, b store.Bounds) error {
	return a.audit.append(a.replica, log, entries, func() error { return a.Store.Append(ctx, log, at, entries, b) })
}

// An audit watches what replicas do to the logs of streams: a log has one writer at a time, and
// the writer changes only by a claim.
type audit struct {
	mu      sync.Mutex
	writers map[string]string         // by log
	swaps   map[string]map[string]int // by log and replica: the number of its last claim
	claimed map[string]int            // by log: the number of the claim that its last Claim entry belongs to
	seq     int
	wrong   []string
	stale   int // appends that the fence kept out
}

func newAudit() *audit {
	return &audit{writers: make(map[string]string), swaps: make(map[string]map[string]int), claimed: make(map[string]int)}
}

func (a *audit) swapped(replica, key string) {
	rest, ok := strings.CutPrefix(key, "run:")
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	log := "stream:" + rest
	if a.swaps[log] == nil {
		a.swaps[log] = make(map[string]int)
	}
	a.seq++
	a.swaps[log][replica] = a.seq
}

func (a *audit) append(replica, log string, entries [][]byte, do func() error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := do(); err != nil {
		if a.writers[log] != "" && a.writers[log] != replica {
			a.stale++
		}
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	claim := entries[0][0] == 'c'
	switch writer := a.writers[log]; {
	case writer == "" || writer == replica && !claim:
		a.writers[log] = replica
	case !claim:
		a.wrong = append(a.wrong, fmt.Sprintf("%s appended %q to a log of %s", replica, entries[0], writer))
	case a.swaps[log] == nil: // a standalone stream: it goes where its client is
		a.writers[log] = replica
	default:
		n := a.swaps[log][replica]
		if n < a.claimed[log] {
			a.wrong = append(a.wrong, fmt.Sprintf("%s fenced off %s, which had claimed after it", replica, writer))
		}
		a.writers[log], a.claimed[log] = replica, n
	}
	return nil
}
