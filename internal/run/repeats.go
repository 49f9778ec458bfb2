package run

import (
	"encoding/json"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// repeats recognises what a call that runs again has said before: the very same
// messages, and progress that does not go beyond what the client has seen (it must only ever increase).
type repeats struct {
	said     map[string]int
	progress map[string]float64
}

func newRepeats(sent []Event) *repeats {
	r := &repeats{said: make(map[string]int), progress: make(map[string]float64)}
	for _, e := range sent {
		if e.Kind != Message {
			continue
		}
		r.said[string(e.Data)]++
		if token, value, ok := progressOf(e.Data); ok {
			r.progress[token] = max(r.progress[token], value)
		}
	}
	return r
}

// drop reports whether data need not be sent.
func (r *repeats) drop(data []byte) bool {
	if n := r.said[string(data)]; n > 0 {
		r.said[string(data)] = n - 1
		return true
	}
	token, value, ok := progressOf(data)
	if !ok {
		return false
	}
	if seen, known := r.progress[token]; known && value <= seen {
		return true
	}
	r.progress[token] = value
	return false
}

func progressOf(data []byte) (token string, value float64, ok bool) {
	if wire.Unquote(wire.Member(data, "method")) != "notifications/progress" {
		return "", 0, false
	}
	params := wire.Member(data, "params")
	if json.Unmarshal(wire.Member(params, "progress"), &value) != nil {
		return "", 0, false
	}
	return string(wire.Member(params, "progressToken")), value, true
}
