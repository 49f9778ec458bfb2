package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/tasks"
)

const (
	// taskTimeout bounds how long a task is waited for.
	taskTimeout = time.Minute
	// lookInterval is between two looks at a task. A test wants to see what happens, and leaves politeness to clients.
	lookInterval = 50 * time.Millisecond
)

// A Task is the call of a tool that has become a task (the Tasks extension, SEP-2663; from revision 2026-07-28 on). The server is in
// the care of the test as long as the test looks after the task: whatever it says of it is held against the extension's rules, and what
// breaks one fails the test. A Task is for one goroutine: two looks at once may come back in any order.
//
// To the SDK's session a question of the task is one like any other: the options of Connect that declare that the client can be asked, such
// as [Accept], are needed for tasks that ask. [Task.Result] answers by them; [Task.Await] leaves the question open, for [Task.Answer].
type Task struct {
	// ID is what the server calls it.
	ID string

	session *mcp.ClientSession
	call    string // how it began, for messages
	history *taskHistory
}

// StartTask calls a tool, which must become a task. [Call] has the same tool answer in the call, as far as it can.
func StartTask(t testing.TB, session *mcp.ClientSession, tool string, in any) *Task {
	t.Helper()
	x := &Task{session: session, call: tool + " " + toJSON(in), history: new(taskHistory)}
	defer x.report(t)
	ctx, cancel := x.context(t)
	defer cancel()
	handle, res, err := tasks.Start(ctx, session, &mcp.CallToolParams{Name: tool, Arguments: in})
	switch {
	case err != nil:
		t.Fatalf("e2e: %s: %v", x.call, err)
	case handle == nil:
		t.Fatalf("e2e: %s: want a task, got the result %s", x.call, toJSON(res))
	}
	x.ID = handle.ID
	return x
}

// On is the same task for another session, for instance one with another replica.
func (x *Task) On(session *mcp.ClientSession) *Task {
	other := *x
	other.session = session
	return &other
}

// Await waits until the task has this status. It ends the test when the task comes to another end.
func (x *Task) Await(t testing.TB, want tasks.Status) *tasks.Task {
	t.Helper()
	return x.await(t, "status "+string(want), func(now *tasks.Task) bool { return now.Status == want })
}

// await looks at the task until it is as wanted.
func (x *Task) await(t testing.TB, wanted string, is func(*tasks.Task) bool) *tasks.Task {
	t.Helper()
	defer x.report(t)
	ctx, cancel := x.context(t)
	defer cancel()
	for {
		now, err := tasks.Get(ctx, x.session, x.ID)
		switch {
		case err == nil && is(now):
			return now
		case err == nil && isFinal(now.Status):
			t.Fatalf("e2e: %s: want %s, but the task has ended: %s", x.call, wanted, x.history.latest())
		case err != nil && !x.mayPass(err) && ctx.Err() == nil:
			t.Fatalf("e2e: %s: want %s: %v\nat last %s", x.call, wanted, err, x.history.latest())
		}
		select {
		case <-ctx.Done():
			t.Fatalf("e2e: %s: waited %v for %s (%v)\nat last %s", x.call, taskTimeout, wanted, err, x.history.latest())
		case <-time.After(lookInterval):
		}
	}
}

// mayPass reports whether the server may have been away only: a replica that was killed or is draining, a network that was cut.
func (x *Task) mayPass(err error) bool {
	// The SDK's transport has this code for a request that was answered with an HTTP status alone, or not at all.
	const rejected = -32005
	said, ok := errors.AsType[*jsonrpc.Error](err)
	return ok && said.Code == rejected || errors.Is(err, io.ErrUnexpectedEOF) || x.history.refused()
}

// Answer waits until the task asks, and gives the same answer to all that it asks then, such as
//
//	&mcp.ElicitResult{Action: "accept", Content: map[string]any{"go_on": true}}
func (x *Task) Answer(t testing.TB, answer mcp.InputResponse) {
	t.Helper()
	asked := x.await(t, "a question that is open", func(now *tasks.Task) bool { return x.history.anyOpen(now.InputRequests) })
	answers := mcp.InputResponseMap{}
	for key := range asked.InputRequests {
		answers[key] = answer
	}
	ctx, cancel := x.context(t)
	defer cancel()
	x.insist(ctx, t, "answering", func() error { return tasks.Update(ctx, x.session, x.ID, answers) })
	x.history.answered(answers)
}

// Cancel asks the server to end the task. How it then ends is for [Task.Await]: the work may be done first.
func (x *Task) Cancel(t testing.TB) {
	t.Helper()
	ctx, cancel := x.context(t)
	defer cancel()
	x.insist(ctx, t, "cancelling", func() error { return tasks.Cancel(ctx, x.session, x.ID) })
}

// insist repeats a request that was lost: the methods of tasks may be.
func (x *Task) insist(ctx context.Context, t testing.TB, what string, send func() error) {
	t.Helper()
	for {
		err := send()
		if err == nil {
			return
		}
		if !x.mayPass(err) || ctx.Err() != nil {
			t.Fatalf("e2e: %s: %s its task: %v", x.call, what, err)
		}
		time.Sleep(lookInterval)
	}
}

// Result waits for the end of the task and returns its result, as [Call] does. The session answers what the task asks. Another end, or an
// error of the tool, ends the test.
func (x *Task) Result(t testing.TB) *mcp.CallToolResult {
	t.Helper()
	defer x.report(t)
	ctx, cancel := x.context(t)
	defer cancel()
	res, err := tasks.Wait(ctx, x.session, x.ID, nil)
	if err == nil && res.IsError {
		err = fmt.Errorf("tool error: %s", resultText(res))
	}
	if err != nil {
		t.Fatalf("e2e: %s: %v\nat last %s", x.call, err, x.history.latest())
	}
	return res
}

// TaskResult is [Task.Result], decoded as by [Call].
func TaskResult[Out any](t testing.TB, x *Task) Out {
	t.Helper()
	out, err := decode[Out](x.Result(t))
	if err != nil {
		t.Fatalf("e2e: %s: %v\nat last %s", x.call, err, x.history.latest())
	}
	return out
}

// Failure waits until the task has failed, and returns the error that the call would have been answered with.
func (x *Task) Failure(t testing.TB) *jsonrpc.Error {
	t.Helper()
	return x.Await(t, tasks.Failed).Error
}

// Path returns the statuses that the task was seen in, except for [tasks.Working], which may be too short to be seen: InputRequired once
// for each time that it asked something new, and its end.
func (x *Task) Path() []tasks.Status { return x.history.stops() }

// context bounds a wait, and has the history look at what comes.
func (x *Task) context(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithValue(t.Context(), historyKey{}, x.history), taskTimeout)
}

// report fails the test for what the server has said that it must not.
func (x *Task) report(t testing.TB) {
	t.Helper()
	for _, broken := range x.history.takeBroken() {
		t.Errorf("e2e: %s: %s", x.call, broken)
	}
}

func isFinal(s tasks.Status) bool {
	return slices.Contains([]tasks.Status{tasks.Completed, tasks.Failed, tasks.Cancelled}, s)
}
