// Package task keeps the tasks of the Tasks extension (SEP-2663, io.modelcontextprotocol/tasks): what is known of each, which
// replica works on it, and who goes on when that one is lost.
//
// A task is worked on in rounds. A round ends with the task, or by asking its client something; the answers begin the next one. A
// task that waits for answers has no owner, no goroutine and no memory at any replica. The package knows neither HTTP nor the SDK:
// whoever begins a round brings the function that executes it.
package task

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/sluice-mcp/sluice/internal/large"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// Status is that of a task.
type Status string

// The statuses (Tasks, "Task Status"). The last three are final.
const (
	Working       Status = "working"
	InputRequired Status = "input_required"
	Completed     Status = "completed"
	Failed        Status = "failed"
	Cancelled     Status = "cancelled"
)

// Final reports whether a task with the status never changes again.
func (s Status) Final() bool { return s == Completed || s == Failed || s == Cancelled }

// An Ask is one input request of a task.
type Ask struct {
	Key     string          `json:"key"`     // the tool's own, unique in its round
	Request json.RawMessage `json:"request"` // method and params
	// Schema is what the content of an accepted answer must match. It is empty when any answer will do.
	Schema json.RawMessage `json:"schema,omitempty"`
}

// Record is what the store keeps of a task.
type Record struct {
	ID        string `json:"id"`
	Principal string `json:"principal,omitempty"`
	Status    Status `json:"status"`
	Message   string `json:"message,omitempty"` // at most 1 KiB
	Created   int64  `json:"created"`           // Unix milliseconds, as all times here
	Updated   int64  `json:"updated"`
	TTL       int64  `json:"ttl"`  // milliseconds from Created
	Keep      int64  `json:"keep"` // milliseconds for which an end can be seen, at least
	Poll      int64  `json:"poll"` // milliseconds between two looks of a client

	// Owner is the replica that works on the round, "" when nobody is to.
	Owner string `json:"owner,omitempty"`
	// Claims is how often the task has changed hands. With Owner it is the fence: who finds another number has lost the task.
	Claims int `json:"claims,omitempty"`
	// Lost is how many replicas were lost in this round.
	Lost int `json:"lost,omitempty"`
	// Round counts from 1.
	Round int `json:"round"`
	// Mark tells one write from all others.
	Mark string `json:"mark"`
	// Repeatable tells that a round may run again when its replica is lost.
	Repeatable bool `json:"repeatable,omitempty"`
	// CancelWanted tells that the client has asked for the end.
	CancelWanted bool `json:"cancelWanted,omitempty"`

	// Asked are the outstanding input requests, by the key that the client sees: it is never used again.
	Asked map[string]Ask `json:"asked,omitempty"`
	// Answers are the client's, by the tool's key, and State what the tool wants to have back with them.
	Answers map[string]json.RawMessage `json:"answers,omitempty"`
	State   *string                    `json:"state,omitempty"`

	// Told is what observers of every round are told of the call.
	Told observed.Kept `json:"told,omitzero"`

	// Params are those of the call, and Origin what its caller has to be called again with.
	Params large.Value     `json:"params,omitzero"`
	Origin json.RawMessage `json:"origin,omitempty"`
	Result large.Value     `json:"result,omitzero"`
	Error  *wire.Error     `json:"error,omitempty"`
}

// Call is what an observer is told of the round, takeover being how often the task has come to another replica.
func (r *Record) Call(takeover int) observe.Call {
	return observe.Call{
		Method:    "tools/call",
		Target:    r.Told.Target,
		Revision:  wire.Rev2026,
		Transport: observe.StreamableHTTP,
		Principal: r.Principal,
		Trace:     r.Told.Trace(),
		Takeover:  takeover,
		Task:      observed.Name(r.ID),
		Round:     r.Round,
	}
}

// ends is when the task must have come to its end.
func (r *Record) ends() time.Time { return time.UnixMilli(r.Created + r.TTL) }

// until is when the record is forgotten.
func (r *Record) until() time.Time { return r.ends().Add(time.Duration(r.Keep) * time.Millisecond) }

// kept is how long the store keeps the record from now on.
func (r *Record) kept(now time.Time) time.Duration { return max(time.Second, r.until().Sub(now)) }

// clone returns a copy that may be changed.
func (r *Record) clone() *Record {
	c := *r
	c.Asked, c.Answers = maps.Clone(r.Asked), maps.Clone(r.Answers)
	return &c
}

// An Outcome is how a round ended: with Asked, with Err, or else with Result.
type Outcome struct {
	Result json.RawMessage
	// IsError tells that Result is a tool's error. A tool reports so, too, that it was cancelled.
	IsError bool
	Err     *wire.Error
	Asked   []Ask
	State   *string
}

// The transitions. Each changes a record that was just read and says whether it may be written; a writer whose
// write meets another one reads again and decides anew.

// end ends the owner's work on the task.
func (r *Record) end(o Outcome, result large.Value, now time.Time) {
	switch {
	case r.CancelWanted && (o.Err != nil || o.IsError || len(o.Asked) > 0):
		r.finish(Cancelled, now)
	case o.Err != nil:
		r.fail(o.Err, now)
	case len(o.Asked) > 0:
		r.ask(o.Asked, o.State, now)
	default: // also when the client wanted it cancelled: the work was done first
		r.Result = result
		r.finish(Completed, now)
	}
}

func (r *Record) finish(s Status, now time.Time) {
	r.Status, r.Owner, r.Updated = s, "", now.UnixMilli()
	r.Asked, r.Answers, r.State = nil, nil, nil
	r.Params, r.Origin = large.Value{}, nil
	// An end that comes late must be seen as long as one that comes early. The time to live never shrinks.
	r.TTL = max(r.TTL, now.UnixMilli()-r.Created+r.Keep)
}

func (r *Record) fail(e *wire.Error, now time.Time) {
	r.Error, r.Message = e, shorten(e.Message)
	r.finish(Failed, now)
}

func (r *Record) ask(asked []Ask, state *string, now time.Time) {
	r.Status, r.Owner, r.Updated = InputRequired, "", now.UnixMilli()
	r.Asked, r.Answers, r.State = make(map[string]Ask, len(asked)), nil, state
	for _, a := range asked {
		r.Asked[key(a.Key, r.Round)] = a
	}
}

// answer takes the answers to outstanding requests, and reports whether there are none left. Others are not looked at: they
// were never asked, are answered already, or belong to an earlier round (Tasks, "Task Update").
func (r *Record) answer(answers map[string]json.RawMessage, now time.Time) (took, all bool) {
	if r.Status != InputRequired {
		return false, false
	}
	for _, k := range slices.Sorted(maps.Keys(answers)) {
		ask, outstanding := r.Asked[k]
		if !outstanding {
			continue
		}
		if r.Answers == nil {
			r.Answers = make(map[string]json.RawMessage)
		}
		r.Answers[ask.Key] = answers[k]
		delete(r.Asked, k)
		took = true
	}
	if took {
		r.Updated = now.UnixMilli()
	}
	return took, took && len(r.Asked) == 0
}

// own gives the task to a replica, which begins a round.
func (r *Record) own(replica string, now time.Time) {
	r.Status, r.Owner, r.Updated = Working, replica, now.UnixMilli()
	r.Claims++
}

// expired has a task that has outlived its time fail, if it has.
func (r *Record) expired(now time.Time) bool {
	if r.Status.Final() || now.Before(r.ends()) {
		return false
	}
	r.fail(tooLong(), now)
	return true
}

func tooLong() *wire.Error { return wire.Internal("The task took longer than its time to live") }

// shorten keeps a text to what a status message may have, whole characters of it.
func shorten(s string) string {
	const most = 1 << 10
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return s[:cut]
}
