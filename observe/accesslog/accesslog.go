// Package accesslog writes one line for each call that an endpoint takes, and names in every other line the call that it was
// written in.
//
// New is the observer that writes the lines. RequestIDs gives each HTTP request an ID, which is in all lines of its calls; Handler puts
// it there. They go together, and each is of use by itself:
//
//	log := slog.New(accesslog.Handler(slog.NewJSONHandler(os.Stderr, nil)))
//	h := sluice.NewHandler(getServer, &sluice.Options{Logger: log, Observer: accesslog.New(log, nil)})
//	http.Handle("/mcp", accesslog.RequestIDs(h))
//
// A line has no arguments, results, tokens, or anything else that a client has written, but for its request ID and trace ID, which are
// taken from a client that has sensible ones.
package accesslog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strings"
	"time"
	"unicode"

	"github.com/sluice-mcp/sluice/observe"
)

// Options configure the lines. Nil, and the zero value, are ready for use.
type Options struct {
	// Principals has principals written as they are. By default a line has a hash, by which the calls of one principal are found: who
	// knows the name of a user can tell the hash, but not the other way round.
	Principals bool
	// Quiet writes no lines. What is left is that those of others name their call, see [Handler].
	Quiet bool
}

// New returns an observer that writes one line, at level info, when a call has ended, and one for a request that was turned away. Where
// another observer says what the ID of the trace is ([observe.WithTraceID]), join it before this one. opts may be nil.
func New(log *slog.Logger, opts *Options) observe.Observer {
	a := &access{log: slog.New(Handler(log.Handler()))}
	if opts != nil {
		a.Options = *opts
	}
	return a
}

type access struct {
	Options
	log *slog.Logger
}

// Call implements [observe.Observer].
func (a *access) Call(ctx context.Context, c observe.Call) (context.Context, func(observe.End)) {
	ctx = within(ctx, c)
	if a.Quiet || !a.log.Enabled(ctx, slog.LevelInfo) {
		return ctx, nil
	}
	begun := time.Now()
	return ctx, func(e observe.End) { a.write(ctx, c, e, time.Since(begun)) }
}

func (a *access) write(ctx context.Context, c observe.Call, e observe.End, took time.Duration) {
	var room [16]slog.Attr // as many as there are
	attrs := append(room[:0], slog.String("method", c.Method))
	text := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	number := func(key string, n int64) {
		if n != 0 {
			attrs = append(attrs, slog.Int64(key, n))
		}
	}
	text("principal", a.principal(c.Principal))
	text("session", c.Session)
	text("revision", c.Revision)
	text("task", c.Task)
	number("round", int64(c.Round))
	number("takeover", int64(c.Takeover))
	attrs = append(attrs, slog.Float64("duration_ms", float64(took.Microseconds())/1000))
	text("outcome", string(e.Outcome))
	number("code", e.Code)
	text("shape", string(e.Shape))
	attrs = append(attrs, slog.Int64("bytes_out", e.Bytes))
	a.log.LogAttrs(ctx, slog.LevelInfo, "call", attrs...)
}

// Ask implements [observe.Observer]. What a client is asked belongs to the call in which it is.
func (*access) Ask(context.Context, observe.Ask) (observe.Trace, func(observe.End)) {
	return observe.Trace{}, nil
}

// Event implements [observe.Observer].
func (a *access) Event(ctx context.Context, e observe.Event) {
	if e, ok := e.(observe.Refused); ok && !a.Quiet && callOf(ctx) == nil { // a call that is refused has a line of its own
		a.log.LogAttrs(ctx, slog.LevelInfo, "refused", slog.String("reason", string(e.Reason)))
	}
}

// maxPrincipal bounds a name, in bytes.
const maxPrincipal = 128

func (a *access) principal(name string) string {
	if name == "" || a.Principals {
		return clean(name, maxPrincipal)
	}
	sum := sha256.Sum256([]byte(name))
	return "sha256:" + hex.EncodeToString(sum[:6])
}

// clean bounds a text, and takes out what acts on a terminal or makes two lines of one.
func clean(s string, most int) string {
	s = strings.ToValidUTF8(s[:min(len(s), most)], "")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}
