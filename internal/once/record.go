package once

import (
	"encoding/json"

	"github.com/sluice-mcp/sluice/internal/large"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// record is what the store keeps of a call, from before its handler is called on.
type record struct {
	// Wants tells what was asked for.
	Wants string `json:"wants"`
	// Owner is the replica that executes the call. The mark is different each time that one begins to.
	Owner string `json:"owner"`
	Mark  string `json:"mark"`
	// Claims counts how often another replica has begun anew.
	Claims int `json:"claims,omitempty"`

	Outcome *outcome `json:"outcome,omitempty"` // nil while it runs
	// Void: it has never begun, or may begin anew for another reason.
	Void bool `json:"void,omitempty"`
}

// outcome is how a call has ended: with a result or an error.
type outcome struct {
	Result large.Value `json:"result,omitzero"`
	Err    *wire.Error `json:"error,omitempty"`
}

// maxClaims bounds how often a call runs again: one that brings its process down must not bring all of them down.
const maxClaims = 16

func recordKey(name string) string { return "once:" + name }

func encode(r record) []byte {
	raw, err := json.Marshal(r)
	if err != nil { // what a result or an error says was valid JSON before: this is for what cannot happen
		r.Outcome = &outcome{Err: errLarge}
		raw, _ = json.Marshal(r) //nolint:errchkjson // strings
	}
	return raw
}
