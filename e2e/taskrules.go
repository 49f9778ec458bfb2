package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/sse"
	"github.com/sluice-mcp/sluice/tasks"
)

// historyKey finds the history of a task in the context of the requests that look after it.
type historyKey struct{}

// A taskHistory is all that a server has said of a task, and what it broke of the rules of the Tasks extension. It reads what passes
// on the wire, since clients are lenient.
type taskHistory struct {
	mu     sync.Mutex
	first  *taskOnWire // the handle
	last   *taskOnWire
	path   []tasks.Status
	asked  map[string]json.RawMessage // every question that there ever was, by its key
	gone   map[string]bool            // keys that were open once and then no more
	sent   map[string]bool            // keys that were answered
	broken []string                   // since the last report
	status int                        // of the last response
}

// A taskOnWire is a task as the server writes it.
type taskOnWire struct {
	ResultType    string
	TaskID        string
	Status        tasks.Status
	CreatedAt     string
	LastUpdatedAt string
	TTL           json.RawMessage `json:"ttlMs"`
	Poll          json.RawMessage `json:"pollIntervalMs"`
	InputRequests map[string]json.RawMessage
	Result        json.RawMessage
	Error         json.RawMessage
	RequestState  json.RawMessage

	raw     string
	created time.Time
}

// taskWatch shows histories what servers say.
type taskWatch struct{ next http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (w taskWatch) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(req)
	h, ok := req.Context().Value(historyKey{}).(*taskHistory)
	if err != nil || !ok {
		return resp, err
	}
	h.answeredWith(resp.StatusCode)
	method := req.Header.Get("Mcp-Method")
	if method != "tools/call" && method != "tasks/get" {
		return resp, nil
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if result := resultIn(resp.Header.Get("Content-Type"), body); result != nil {
		h.see(method == "tools/call", result)
	}
	return resp, nil
}

// CloseIdleConnections is what http.Client looks for.
func (w taskWatch) CloseIdleConnections() { w.next.(*http.Transport).CloseIdleConnections() }

// resultIn returns the result in a response, or nil.
func resultIn(contentType string, body []byte) json.RawMessage {
	kind, _, _ := mime.ParseMediaType(contentType)
	messages := [][]byte{body}
	if kind == "text/event-stream" {
		messages = nil
		events := sse.NewReader(bytes.NewReader(body))
		for {
			ev, err := events.Next()
			if err != nil {
				break
			}
			messages = append(messages, ev.Data)
		}
	}
	for _, m := range slices.Backward(messages) {
		var response struct{ Result json.RawMessage }
		if json.Unmarshal(m, &response) == nil && response.Result != nil {
			return response.Result
		}
	}
	return nil
}

// see takes note of what the server says: a handle, or all of the task.
func (h *taskHistory) see(handle bool, result json.RawMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := &taskOnWire{raw: string(result)}
	if err := json.Unmarshal(result, now); err != nil {
		h.breaks("%v", err)
		return
	}
	if handle && now.ResultType != "task" {
		return // an answer that is no task
	}
	h.checkShape(now, handle)
	h.checkEnd(now)
	if h.last == nil {
		h.first, h.last = now, now
	} else {
		h.checkStep(now)
	}
	h.checkQuestions(now)
	h.last = now
}

// breaks notes that a rule is broken.
func (h *taskHistory) breaks(format string, args ...any) {
	said := fmt.Sprintf(format, args...)
	if !slices.Contains(h.broken, said) {
		h.broken = append(h.broken, said)
	}
}

// checkShape holds one message against what a task looks like (Tasks, "Task", "CreateTaskResult", "DetailedTask").
func (h *taskHistory) checkShape(now *taskOnWire, handle bool) {
	want := "complete"
	if handle {
		want = "task"
	}
	if now.ResultType != want {
		h.breaks("the resultType is %q, want %q: %s", now.ResultType, want, now.raw)
	}
	known := []tasks.Status{tasks.Working, tasks.InputRequired, tasks.Completed, tasks.Failed, tasks.Cancelled}
	if !slices.Contains(known, now.Status) {
		h.breaks("there is no status %q: %s", now.Status, now.raw)
	}
	var err error
	if now.created, err = parseTime(now.CreatedAt); err != nil {
		h.breaks("createdAt must be a time: %v", err)
	}
	if _, err := parseTime(now.LastUpdatedAt); err != nil {
		h.breaks("lastUpdatedAt must be a time: %v", err)
	}
	if string(now.TTL) != "null" && !isNatural(now.TTL) {
		h.breaks("ttlMs must be null or a whole number, not %q: %s", now.TTL, now.raw)
	}
	if now.Poll != nil && !isNatural(now.Poll) {
		h.breaks("pollIntervalMs must be a whole number, not %q: %s", now.Poll, now.raw)
	}
	for _, member := range []struct {
		name  string
		there bool
		want  bool
	}{
		{"inputRequests", now.InputRequests != nil, !handle && now.Status == tasks.InputRequired},
		{"result", now.Result != nil, !handle && now.Status == tasks.Completed},
		{"error", now.Error != nil, !handle && now.Status == tasks.Failed},
		{"requestState", now.RequestState != nil, false},
	} {
		switch {
		case member.there && !member.want:
			h.breaks("it must have no %s now: %s", member.name, now.raw)
		case member.want && !member.there:
			h.breaks("it must have %s when it is %s: %s", member.name, now.Status, now.raw)
		}
	}
}

// checkEnd holds what a task has come to against what it stands for: the result or the error of the call (Tasks, "Task Execution").
func (h *taskHistory) checkEnd(now *taskOnWire) {
	var result struct{ ResultType string }
	if now.Result != nil && (json.Unmarshal(now.Result, &result) != nil || result.ResultType != "complete") {
		h.breaks("its result must be what the call would have been answered with, resultType complete: %s", now.Result)
	}
	var e struct {
		Code    *int64
		Message *string
	}
	if now.Error != nil && (json.Unmarshal(now.Error, &e) != nil || e.Code == nil || e.Message == nil) {
		h.breaks("its error must be that of a response, with code and message: %s", now.Error)
	}
}

// parseTime reads a time of ISO 8601, with or without its zone.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		if t, err := time.Parse("2006-01-02T15:04:05", s); err == nil {
			return t, nil
		}
	}
	return t, err
}

// isNatural reports whether this is a whole number, and more than nothing.
func isNatural(raw json.RawMessage) bool {
	var n int64
	return json.Unmarshal(raw, &n) == nil && n > 0
}

// checkStep holds what the server says now against what it said before (Tasks, "Task Status").
func (h *taskHistory) checkStep(now *taskOnWire) {
	if now.TaskID != h.first.TaskID {
		h.breaks("asked for the task %s, the server told of %s", h.first.TaskID, now.TaskID)
	}
	if !now.created.Equal(h.first.created) {
		h.breaks("it was created at %s, and now at %s", h.first.CreatedAt, now.CreatedAt)
	}
	if !isFinal(h.last.Status) {
		return
	}
	if now.Status != h.last.Status {
		h.breaks("%s is final, and now it is %s", h.last.Status, now.Status)
	} else if !sameJSON(now.Result, h.last.Result) || !sameJSON(now.Error, h.last.Error) {
		h.breaks("its end has changed from %s to %s", h.last.raw, now.raw)
	}
}

// checkQuestions holds a key to mean one question for the life of the task (Tasks, "Task Update"), and notes where the task is.
func (h *taskHistory) checkQuestions(now *taskOnWire) {
	news := false
	for key, question := range now.InputRequests {
		before, ok := h.asked[key]
		switch {
		case !ok:
			news = true
		case !sameJSON(before, question):
			h.breaks("the key %q meant %s, and now it means %s", key, before, question)
		case h.gone[key]: // what was answered may still be shown, but not come back
			h.breaks("the key %q is used again: %s", key, question)
		}
	}
	for key := range h.asked {
		if now.InputRequests[key] == nil {
			h.gone = with(h.gone, key)
		}
	}
	for key, question := range now.InputRequests {
		if h.asked == nil {
			h.asked = map[string]json.RawMessage{}
		}
		h.asked[key] = question
	}
	switch {
	case now.Status == tasks.InputRequired && news:
		h.path = append(h.path, now.Status)
	case isFinal(now.Status) && (len(h.path) == 0 || h.path[len(h.path)-1] != now.Status):
		h.path = append(h.path, now.Status)
	}
}

// sameJSON reports whether two texts mean the same. None is the same as none.
func sameJSON(a, b json.RawMessage) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func with(set map[string]bool, key string) map[string]bool {
	if set == nil {
		set = map[string]bool{}
	}
	set[key] = true
	return set
}

// answered notes questions that the server has taken answers for. It may show them as open for a while yet.
func (h *taskHistory) answered(answers mcp.InputResponseMap) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range answers {
		h.sent = with(h.sent, key)
	}
}

// anyOpen reports whether one of these questions was not answered yet.
func (h *taskHistory) anyOpen(questions mcp.InputRequestMap) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range questions {
		if !h.sent[key] {
			return true
		}
	}
	return false
}

func (h *taskHistory) answeredWith(status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status = status
}

// refused reports whether the last response was that of somebody who has no time, or no server behind.
func (h *taskHistory) refused() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains([]int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, h.status)
}

func (h *taskHistory) stops() []tasks.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.path)
}

// latest is what the server said last, or "".
func (h *taskHistory) latest() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil {
		return ""
	}
	return shorten(h.last.raw)
}

// takeBroken returns what was not reported yet.
func (h *taskHistory) takeBroken() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	broken := h.broken
	h.broken = nil
	return broken
}
