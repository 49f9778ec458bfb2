package sitetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-mcp/sluice/observe"
)

// Canary stands in what must never be told: arguments, results, errors of tools, answers.
const Canary = "canary-7f3a"

// A Ledger is an observer that writes down what it is told, and sees to it that nothing ends twice.
type Ledger struct {
	t testing.TB

	mu     sync.Mutex
	calls  []*Entry
	asks   []*Entry
	events []observe.Event
}

// An Entry is a call or a question.
type Entry struct {
	observe.Call
	Ask  observe.Ask
	End  observe.End
	Ends int // how often it has ended
}

type entryKey struct{}

// NewLedger returns an empty ledger.
func NewLedger(t testing.TB) *Ledger { return &Ledger{t: t} }

// Within returns the call that a context belongs to as a Ledger has it, or nil.
func Within(ctx context.Context) *Entry {
	e, _ := ctx.Value(entryKey{}).(*Entry)
	return e
}

// Call implements [observe.Observer].
func (l *Ledger) Call(ctx context.Context, c observe.Call) (context.Context, func(observe.End)) {
	e := &Entry{Call: c}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, e)
	return context.WithValue(ctx, entryKey{}, e), l.end(e)
}

func (l *Ledger) end(e *Entry) func(observe.End) {
	return func(end observe.End) {
		l.mu.Lock()
		defer l.mu.Unlock()
		e.End = end
		if e.Ends++; e.Ends > 1 {
			l.t.Errorf("has ended %d times: %+v", e.Ends, *e)
		}
	}
}

// AskedTrace is what a Ledger has sent along with a question.
const AskedTrace = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"

// Ask implements [observe.Observer].
func (l *Ledger) Ask(ctx context.Context, a observe.Ask) (observe.Trace, func(observe.End)) {
	e := &Entry{Ask: a}
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Value(entryKey{}) == nil {
		l.t.Error("a handler asks outside of its call")
	}
	l.asks = append(l.asks, e)
	return observe.Trace{Parent: AskedTrace}, l.end(e)
}

// Event implements [observe.Observer].
func (l *Ledger) Event(_ context.Context, e observe.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// Said returns the calls with their ends, one a line.
func (l *Ledger) Said() (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.calls {
		if e.Method == "initialize" && e.End.Outcome == observe.OK {
			continue
		}
		line := e.Method
		if e.Target != "" {
			line += " " + e.Target
		}
		if e.Takeover > 0 {
			line += fmt.Sprint(" takeover ", e.Takeover)
		}
		if e.Round > 0 {
			line += fmt.Sprint(" round ", e.Round)
		}
		line += ": " + string(e.End.Outcome)
		if e.Ends == 0 {
			line += "open"
		}
		if e.End.Code != 0 {
			line += fmt.Sprint(" ", e.End.Code)
		}
		if e.End.Shape != "" {
			line += " " + string(e.End.Shape)
		}
		lines = append(lines, line)
	}
	return lines
}

// Want checks the calls, once nothing moves any more.
func (l *Ledger) Want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(lines, l.Said()); diff != "" {
		t.Errorf("the calls (-want +got):\n%s", diff)
	}
}

// Told returns the events of a type, once nothing moves any more.
func Told[E observe.Event](l *Ledger) (all []E) {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e, ok := e.(E); ok {
			all = append(all, e)
		}
	}
	return all
}

// WantTold checks the events of a type.
func WantTold[E observe.Event](t *testing.T, l *Ledger, want ...E) {
	t.Helper()
	if diff := cmp.Diff(want, Told[E](l)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// Unbalanced returns what has begun and not ended, at a replica that is closed.
func (l *Ledger) Unbalanced() (wrong []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range slices.Concat(l.calls, l.asks) {
		if e.Ends != 1 {
			wrong = append(wrong, fmt.Sprintf("an observer is told of %d ends of %+v%+v", e.Ends, e.Call, e.Ask))
		}
	}
	var sessions, streams, claims int
	for _, e := range l.events {
		switch e := e.(type) {
		case observe.SessionOpened, observe.SessionAdopted:
			sessions++
		case observe.SessionEnded:
			sessions--
		case observe.StreamOpened:
			streams++
		case observe.StreamClosed:
			streams--
		case observe.Takeover:
			switch {
			case e.Task != "": // one write takes a task over, and so one event tells of it
			case e.Stage == observe.Claimed:
				claims++
			case e.Duration > 0 || e.Stage != observe.Outrun:
				claims--
			}
		}
	}
	if sessions != 0 || streams != 0 || claims != 0 {
		wrong = append(wrong, fmt.Sprintf("an observer is not told of the end of %d sessions, %d streams, %d claims", sessions, streams, claims))
	}
	return wrong
}

// Forget begins anew.
func (l *Ledger) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls, l.asks, l.events = nil, nil, nil
}

// All returns the calls and the questions until now, as they are then.
func (l *Ledger) All() (calls, asks []Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.calls {
		calls = append(calls, *e)
	}
	for _, e := range l.asks {
		asks = append(asks, *e)
	}
	return calls, asks
}

// Everything is all that was told, as text.
func (l *Ledger) Everything() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, e := range slices.Concat(l.calls, l.asks) {
		fmt.Fprintf(&b, "%+v\n", *e)
	}
	for _, e := range l.events {
		fmt.Fprintf(&b, "%#v\n", e)
	}
	return b.String()
}

// Hides looks for what must not be told, [Canary] among it.
func (l *Ledger) Hides(t *testing.T, secrets ...string) {
	t.Helper()
	all := l.Everything()
	for _, secret := range append(secrets, Canary) {
		if i := strings.Index(all, secret); i >= 0 {
			t.Errorf("%q is told: …%s…", secret, all[max(0, i-200):min(len(all), i+100)])
		}
	}
}
