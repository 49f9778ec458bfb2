package observe

import "time"

// Event is one of the types of this file.
type Event interface{ event() }

// SessionOpened is a session that a client has opened here.
type SessionOpened struct {
	Session   string // names it in log lines, here and in all other events and calls; it cannot be used to take part in it
	Revision  string
	Transport Transport
}

// SessionAdopted is a session that was opened at another replica, and lives here from now on, too.
type SessionAdopted struct {
	Session  string
	Revision string
}

// SessionEnded is the end of a session's life here: each that was opened or adopted here has one.
type SessionEnded struct {
	Session   string
	Revision  string
	Transport Transport
	Reason    EndReason
	// Adopted tells that it was opened at another replica, which tells its end as well.
	Adopted bool
	// Duration is from when it was opened, or adopted.
	Duration time.Duration
}

// EndReason is why a session has ended here.
type EndReason string

// The reasons.
const (
	EndDeleted      EndReason = "deleted"      // by its client
	EndClosed       EndReason = "closed"       // by its server
	EndDisconnected EndReason = "disconnected" // with its connection (HTTP+SSE)
	// EndIdle: nobody has used it here for as long as it lives. With a shared store it may live on at another replica.
	EndIdle EndReason = "idle"
	// EndGone: the store does not have it any more; it has expired or was ended at another replica.
	EndGone EndReason = "gone"
	// EndLeft: this replica leaves, where another one may go on with it.
	EndLeft EndReason = "left"
)

// StreamOpened is an event stream that a client begins to be shown.
type StreamOpened struct {
	Kind    StreamKind
	Resumed bool // the client goes on with one that it had
}

// StreamClosed is the end of the HTTP response that showed it.
type StreamClosed struct {
	Kind     StreamKind
	Reason   CloseReason
	Duration time.Duration // of the response
}

// StreamKind says what a stream carries.
type StreamKind string

// The kinds.
const (
	StreamCall       StreamKind = "call"
	StreamStandalone StreamKind = "standalone" // of a session: what belongs to no call
	StreamListen     StreamKind = "listen"     // subscriptions/listen
	StreamHTTPSSE    StreamKind = "http_sse"   // all of a session of HTTP+SSE
	StreamMirror     StreamKind = "mirror"     // written at another replica, whatever it carries
)

// CloseReason is why a client is not shown a stream any more.
type CloseReason string

// The reasons.
const (
	CloseEnded    CloseReason = "ended"    // it had all of it
	CloseGone     CloseReason = "gone"     // the client has left
	CloseStalled  CloseReason = "stalled"  // the client did not read for too long
	CloseReleased CloseReason = "released" // it was asked to come back: by a handler, or because this replica leaves
	CloseResumed  CloseReason = "resumed"  // the client has come back for it on another connection
	CloseFailed   CloseReason = "failed"   // it cannot be gone on with here: another replica has it, or the client is too far behind
	CloseTime     CloseReason = "time"     // the platform gives a response no more time
)

// StreamResumed is a client that has come back for a stream, by Last-Event-ID.
type StreamResumed struct {
	Session string
	Result  ResumeResult
}

// ResumeResult is what a client finds that comes back for a stream.
type ResumeResult string

// The results.
const (
	ResumeHere     ResumeResult = "here"     // it is written here
	ResumeMirrored ResumeResult = "mirrored" // another replica writes it, or did; here its log is shown
	ResumeBehind   ResumeResult = "behind"   // what the client lacks is no longer kept
	ResumeUnknown  ResumeResult = "unknown"  // there is no such stream, or not any more
	ResumeSentBack ResumeResult = "sent_back"
	ResumeFailed   ResumeResult = "failed" // the store is out of reach
)

// Takeover is the taking over of a stream with calls, or of a task, from a replica that is lost.
type Takeover struct {
	Session string // of a stream
	Task    string // of a task, as in [TaskChanged]
	Stage   TakeoverStage
	// Claim is how often it has changed hands.
	Claim int
	// Repeated is how many calls run again here, and Lost how many are told to their client as lost, once it is Won.
	Repeated, Lost int
	// Duration is from the claim to Won, Outrun or Broken; that of a task is not measured.
	Duration time.Duration
}

// TakeoverStage is how far a takeover is.
type TakeoverStage string

// The stages. Claimed is followed by one of the others.
const (
	Claimed TakeoverStage = "claimed"
	Won     TakeoverStage = "won" // it is this replica's; nothing may be left to do
	// Outrun: another replica was faster, or the lost one had come to the end, or lives. There may have been no Claimed.
	Outrun TakeoverStage = "outrun"
	// Broken: the store failed on the way. It is claimed again.
	Broken TakeoverStage = "broken"
)

// Fenced is a stream, or a task, that this replica has lost to another one, though it lives: it was thought dead. Calls end as TakenOver.
type Fenced struct {
	Session string
	Task    string
	Calls   int // that ran here
}

// StoreOp is a round trip to the store.
type StoreOp struct {
	Op       string // the method of the store, in lower case: get, append, publish, ...
	Duration time.Duration
	Result   StoreResult
}

// StoreResult is what came of a round trip.
type StoreResult string

// The results.
const (
	StoreOK          StoreResult = "ok"
	StoreMiss        StoreResult = "miss"        // an answer as good as any: not found, exists, conflict, trimmed
	StoreFenced      StoreResult = "fenced"      // another replica has written
	StoreUnavailable StoreResult = "unavailable" // nothing is known
)

// LeaseRenewed is an attempt to tell the other replicas that this one lives, each second.
type LeaseRenewed struct{ OK bool }

// Refused is an HTTP request, or a message in one, that was turned away. One that is a call is told of as such, too: the context
// of this is then that of the call.
type Refused struct{ Reason RefuseReason }

// RefuseReason is why a request was turned away.
type RefuseReason string

// The reasons.
const (
	RefusedOrigin       RefuseReason = "origin"
	RefusedHost         RefuseReason = "host"
	RefusedUnauthorized RefuseReason = "unauthorized" // no token, or none that is good
	RefusedScope        RefuseReason = "scope"        // the token allows less
	RefusedKeys         RefuseReason = "keys"         // the authorization server's keys cannot be had
	RefusedRate         RefuseReason = "rate"         // more requests than the user may send
	RefusedBody         RefuseReason = "body"         // too large
	RefusedMalformed    RefuseReason = "malformed"    // no message that can be read
	RefusedCalls        RefuseReason = "calls"        // as many in flight as may be, in all or of the principal
	RefusedSessions     RefuseReason = "sessions"     // as many open as may be, in all or of the principal
	RefusedUnread       RefuseReason = "unread"       // too much waits for the client to read it
	RefusedTasks        RefuseReason = "tasks"        // as many worked on as may be, in all or of the principal
	RefusedDraining     RefuseReason = "draining"
	RefusedStore        RefuseReason = "store" // out of reach
	RefusedNoSession    RefuseReason = "no_session"
)

// DrainBegun is the beginning of the end: no new work is taken.
type DrainBegun struct{ Calls int } // in flight

// DrainEnded is when nothing is left to be waited for, or when the time is up.
type DrainEnded struct {
	Duration time.Duration
	Left     int // calls that were let go unfinished
}

// NoteSent is a note to one other replica, or to all.
type NoteSent struct {
	Kind string // one of some twenty
	All  bool
	OK   bool // it was taken, by somebody
}

// TaskChanged is a task whose state has been changed here.
type TaskChanged struct {
	Task     string // names it in log lines; it cannot be used to ask for the task
	From, To string // the statuses of the Tasks extension; From is empty for a new one
}

// ChangeTold is a change of a server that clients here are told of, if they want to hear of it.
type ChangeTold struct {
	Method string // of the notification
	// Elsewhere tells that the change was noticed at another replica.
	Elsewhere bool
}

func (SessionOpened) event()  {}
func (SessionAdopted) event() {}
func (SessionEnded) event()   {}
func (StreamOpened) event()   {}
func (StreamClosed) event()   {}
func (StreamResumed) event()  {}
func (Takeover) event()       {}
func (Fenced) event()         {}
func (StoreOp) event()        {}
func (LeaseRenewed) event()   {}
func (Refused) event()        {}
func (DrainBegun) event()     {}
func (DrainEnded) event()     {}
func (NoteSent) event()       {}
func (TaskChanged) event()    {}
func (ChangeTold) event()     {}
