package sluice

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/sluice-mcp/sluice/internal/caller"
	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/store"
)

// Options configures a [Handler]. The zero value is ready for use.
type Options struct {
	// Logger receives one line per notable event. Nil discards.
	Logger *slog.Logger

	// Observer is told what the endpoint does: of each call, and of what else happens. Package observe says how, and has packages
	// below it that log and trace. Nil is nobody, and costs nothing.
	Observer observe.Observer

	// Store holds what replicas share: sessions, streams and who runs what. Nil keeps it in
	// this process. The handler does not close a store that it was given.
	Store store.Store

	// AllowedOrigins lists the browser origins, such as "https://app.example.com", that may call
	// the endpoint, with whatever headers they ask for. A page of the endpoint's own origin always may; requests without
	// an Origin do not come from a browser.
	AllowedOrigins []string

	// AllowedHosts lists further values of the Host header that a request may have that arrives at a loopback
	// address, where otherwise only loopback names are accepted (DNS rebinding). A server
	// behind a proxy on the same machine needs its public name here. One without a port stands for all ports.
	AllowedHosts []string

	// Principal tells on whose behalf a request comes; sessions, streams, state and limits are
	// bound to it. Nil takes the user of the SDK's bearer token middleware, or its
	// token if it names no user; a request without a token has the principal "".
	Principal func(*http.Request) string

	// StateKeys seal the requestState of multi round-trip requests. The first seals, all of
	// them open, so that keys can be rotated; each has 32 bytes. All replicas
	// need the same. Nil makes one, which ends with the process.
	StateKeys [][]byte
	// StateTTL is how long a sealed requestState can be used. Zero means 10 minutes.
	StateTTL time.Duration

	// SessionTimeout ends a session that has been idle this long. Zero means 30 minutes.
	SessionTimeout time.Duration
	// SessionEnded, if not nil, is called once when a session has ended: by DELETE, because nobody used it for SessionTimeout, because
	// the server closed it, with its connection if it is one of HTTP+SSE, or with the handler if no Store is given. id is what
	// [mcp.ServerSession.ID] returns. It is called soon after, at most an eighth of SessionTimeout and some seconds,
	// on a goroutine that calls it for one session after the other: what takes long is to be done elsewhere.
	//
	// A server closes a session with [mcp.ServerSession.Close] during one of its calls, or when it finds it among [mcp.Server.Sessions]. On
	// a ServerSession that was kept beyond the call it does nothing: the client's session may rest, or go on with another one.
	//
	// Of replicas that share a Store, it is called at one that has served the session: where it was ended, or where it was used last. Give
	// it to all of them. A session that has expired is not told of when every replica that has served it is gone: what must not be
	// lost needs a time to live of its own.
	SessionEnded func(id string)
	// ReplyTimeout bounds how long a handler waits for the client's answer to a request, such as an
	// elicitation. Zero means 5 minutes.
	ReplyTimeout time.Duration
	// KeepAlive is the time between comments on a quiet stream. Zero means 10 seconds.
	KeepAlive time.Duration

	// MaxBody bounds a request's body, in bytes. Zero means 4 MiB.
	MaxBody int64
	// MaxSessions bounds the sessions opened at this replica, MaxSessionsPerPrincipal
	// those of one principal other than "". Zero means 250 000 and 1 000.
	MaxSessions, MaxSessionsPerPrincipal int
	// MaxCalls bounds the calls in flight at this replica, MaxCallsPerPrincipal those of
	// one principal other than "". Zero means 10 000 and 1 000.
	MaxCalls, MaxCallsPerPrincipal int

	// OnceTTL is how long the outcome of a tool call with an idempotency key is kept: whoever repeats the call with the same key and
	// arguments gets it. Zero means 10 minutes.
	OnceTTL time.Duration

	// NoTasks has no call become a task, whatever tools say: where nothing runs after the response, as on AWS Lambda.
	NoTasks bool
	// TaskAfter is how long a call may take before it becomes a task, if its tool says nothing of tasks and its client declares
	// the extension. Zero is for ever.
	TaskAfter time.Duration
	// TaskTTL is how long a task may take, from its creation, when its tool says nothing else. Zero means 1 hour.
	TaskTTL time.Duration
	// TaskKeep is how long the end of a task can be seen, at least. Zero means 15 minutes.
	TaskKeep time.Duration
	// MaxTasks bounds the handlers that work on tasks at this replica at a time, until they return, MaxTasksPerPrincipal those of one principal
	// other than "". Tasks that wait for their client do not count. Zero means 10 000 and 1 000.
	MaxTasks, MaxTasksPerPrincipal int
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Principal == nil {
		o.Principal = caller.Principal
	}
	def(&o.StateTTL, 10*time.Minute)
	def(&o.SessionTimeout, 30*time.Minute)
	def(&o.ReplyTimeout, 5*time.Minute)
	def(&o.KeepAlive, 10*time.Second)
	def(&o.MaxBody, 4<<20)
	def(&o.MaxSessions, 250_000)
	def(&o.MaxSessionsPerPrincipal, 1_000)
	def(&o.MaxCalls, 10_000)
	def(&o.MaxCallsPerPrincipal, 1_000)
	def(&o.OnceTTL, 10*time.Minute)
	def(&o.TaskTTL, time.Hour)
	def(&o.TaskKeep, 15*time.Minute)
	def(&o.MaxTasks, 10_000)
	def(&o.MaxTasksPerPrincipal, 1_000)
}

func def[T ~int | ~int64](v *T, value T) {
	if *v <= 0 { // what is less than nothing would only break things later
		*v = value
	}
}
