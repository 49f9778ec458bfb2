package observe

// Other stands for what a client may name as it likes: a tool that its server does not list, a method that no specification has. There
// are as many of those as a client can think of, and they must not become as many series of a metric.
const Other = "_other"

// Call is a request of a client, or a round of work on a task.
type Call struct {
	// Method is one of the specifications' methods, or Other.
	Method string
	// Target is the name of the tool or the prompt that the call is about, as the server lists it to this client, else Other. It is
	// empty for a method that is about neither.
	Target string
	// Revision is that which the client speaks, empty before it is agreed on: one of those that are served.
	Revision  string
	Transport Transport
	// ID is that of the JSON-RPC request, as JSON: up to a kilobyte of the client's choice. It is empty for a round of a task.
	ID string
	// Session names the session in log lines, as [Event]s do; it cannot be used to take part in it. It is empty where there is none.
	Session string
	// Principal is on whose behalf the call comes, empty if that is not known. It may be a person's name.
	Principal string
	// Trace is the context in the request's _meta (SEP-414).
	Trace Trace
	// Takeover is how often the call has come to another replica after one was lost: 0 for a first life, whose replica has not told the end.
	Takeover int
	// Task names the task that this is work on, as [TaskChanged] does, and Round is which time its handler is called, from 1 on. ctx then has
	// the values of the request that began the round, if it was begun here. The request itself is a call with an end of its own.
	Task  string
	Round int
}

// Ask is a request that a server sends to its client: an elicitation, for sampling, or for the roots.
type Ask struct {
	Method    string
	Revision  string
	Transport Transport
	ID        string // as in [Call]
	Session   string // as in [Call]
}

// Transport is the way between client and endpoint.
type Transport string

// The transports.
const (
	StreamableHTTP Transport = "streamable-http"
	HTTPSSE        Transport = "http+sse" // of 2024-11-05
)

// Trace is a trace context as it stands in _meta: the values of W3C Trace Context and W3C Baggage, unread. A value that is
// longer than their specifications have everybody pass on is left out.
type Trace struct {
	Parent  string // traceparent
	State   string // tracestate, at most 512 bytes
	Baggage string // at most 8192 bytes; of a call that was taken over it is not known
}

// End is how a call, or a request to a client, came to its end.
type End struct {
	Outcome Outcome
	// Code is that of the JSON-RPC error which is the response, 0 for another one. A handler may have chosen it.
	Code  int64
	Shape Shape
	// Bytes is what the call has said: its messages and its response, without what HTTP adds.
	Bytes int64
}

// Outcome is how a call ended.
type Outcome string

// The outcomes.
const (
	OK Outcome = "ok"
	// InputRequired: the result asks the client for more (2026-07-28).
	InputRequired Outcome = "input_required"
	// ToolError: the tool has said that it failed.
	ToolError Outcome = "tool_error"
	// Failed: the response is the error with [End].Code.
	Failed Outcome = "error"
	// Cancelled: the client wanted no response any more, or has left where that means the same.
	Cancelled Outcome = "cancelled"
	// TakenOver: another replica has the call now, because this one was thought dead, or leaves.
	TakenOver Outcome = "taken_over"
	// Lost: its replica was lost, and it must not run twice. What it did is not known. The replica that tells its client so tells this.
	Lost Outcome = "lost"
	// Repeated: the request is one that was sent before. Its client is shown what that one says.
	Repeated Outcome = "repeated"
	// Unfinished: it was answered with an error while it ran, because its process ends or the platform's time is up.
	Unfinished Outcome = "unfinished"
)

// Shape is how a client was answered.
type Shape string

// The shapes. There is none for a call that was not answered.
const (
	JSON   Shape = "json"
	Stream Shape = "stream" // an event stream
	Task   Shape = "task"   // the handle of a task
)
