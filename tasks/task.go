package tasks

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Status is that of a task.
type Status string

// The statuses. The last three are final.
const (
	Working       Status = "working"
	InputRequired Status = "input_required"
	Completed     Status = "completed"
	Failed        Status = "failed"
	Cancelled     Status = "cancelled"
)

// A Task is what a server says of one.
type Task struct {
	mcp.ResultBase

	ID            string
	Status        Status
	StatusMessage string // for people, may be empty
	// CreatedAt and LastUpdatedAt are zero if the server writes what is no time.
	CreatedAt, LastUpdatedAt time.Time
	// TTL is how long after CreatedAt the server may forget the task. Zero means that it sets no limit.
	TTL time.Duration
	// PollInterval is how often the server wants to be asked at most. Zero means that it does not say.
	PollInterval time.Duration
	// InputRequests are the open questions of a task whose status is InputRequired.
	InputRequests mcp.InputRequestMap
	// Result is the result of a Completed one, as the server wrote it.
	Result json.RawMessage
	// Error is why a Failed one has failed.
	Error *jsonrpc.Error
}

// errMalformed is for what a server sends instead of a task.
var errMalformed = errors.New("a malformed task")

// UnmarshalJSON reads a Task of whatever kind. It is strict with what leads to the result, and lenient with all else: a task
// must not be lost for a time that is written strangely.
func (t *Task) UnmarshalJSON(data []byte) error {
	var w struct {
		Meta          mcp.Meta                   `json:"_meta"`
		ID            string                     `json:"taskId"`
		Status        Status                     `json:"status"`
		StatusMessage json.RawMessage            `json:"statusMessage"`
		CreatedAt     json.RawMessage            `json:"createdAt"`
		LastUpdatedAt json.RawMessage            `json:"lastUpdatedAt"`
		TTL           json.RawMessage            `json:"ttlMs"`
		PollInterval  json.RawMessage            `json:"pollIntervalMs"`
		InputRequests map[string]json.RawMessage `json:"inputRequests"`
		Result        json.RawMessage            `json:"result"`
		Error         *jsonrpc.Error             `json:"error"`
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	*t = Task{
		ResultBase: mcp.ResultBase{Meta: w.Meta},
		ID:         w.ID, Status: w.Status, StatusMessage: lenient[string](w.StatusMessage),
		CreatedAt: lenient[time.Time](w.CreatedAt), LastUpdatedAt: lenient[time.Time](w.LastUpdatedAt),
		TTL: milliseconds(w.TTL), PollInterval: milliseconds(w.PollInterval),
	}
	if t.ID == "" {
		return fmt.Errorf("%w: it has no taskId", errMalformed)
	}
	switch t.Status {
	case Working, Cancelled:
	case InputRequired:
		return t.readQuestions(w.InputRequests)
	case Completed:
		if t.Result = w.Result; len(t.Result) == 0 {
			return fmt.Errorf("%w: it is completed and has no result", errMalformed)
		}
	case Failed:
		if t.Error = w.Error; t.Error == nil {
			t.Error = &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "the server does not say why"}
		}
	default:
		return fmt.Errorf("%w: its status is %q", errMalformed, t.Status)
	}
	return nil
}

// readQuestions reads input requests one by one, so that an error names the one.
func (t *Task) readQuestions(raw map[string]json.RawMessage) error {
	t.InputRequests = make(mcp.InputRequestMap, len(raw))
	for key, text := range raw {
		var q struct {
			Method string          `json:"method"`
			Params json.RawMessage `json:"params"`
		}
		err := json.Unmarshal(text, &q)
		if err == nil {
			if q.Params == nil { // roots/list may leave them out, and the SDK cannot do without
				q.Params = json.RawMessage("{}")
			}
			var one []byte
			if one, err = json.Marshal(map[string]any{key: q}); err == nil {
				var m mcp.InputRequestMap
				err = json.Unmarshal(one, &m)
				t.InputRequests[key] = m[key]
			}
		}
		if err != nil {
			return fmt.Errorf("%w: its question %q: %w", errMalformed, key, err)
		}
	}
	return nil
}

// lenient reads a value, and takes what it cannot read for the zero value.
func lenient[T any](raw json.RawMessage) T {
	var v, zero T
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return zero
	}
	return v
}

func milliseconds(raw json.RawMessage) time.Duration {
	const most = 1 << 53 / float64(time.Millisecond)
	return time.Duration(max(0, min(lenient[float64](raw), most)) * float64(time.Millisecond))
}

// end is what a task that has come to its end means for the caller.
func (t *Task) end() (*mcp.CallToolResult, error) {
	switch t.Status {
	case Failed:
		return nil, &FailedError{t}
	case Cancelled:
		return nil, ErrCancelled
	}
	result := new(mcp.CallToolResult)
	if err := json.Unmarshal(t.Result, result); err != nil {
		return nil, fmt.Errorf("its result: %w", err)
	}
	return result, nil
}
