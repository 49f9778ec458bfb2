package stateless_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
)

// TestStateOpensElsewhere carries the sealed state of a multi round-trip request to another replica.
func TestStateOpensElsewhere(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{7}, 32)
	for name, tt := range map[string]struct {
		keys [][]byte
		ok   bool
	}{"shared keys": {[][]byte{key}, true}, "keys of their own": {nil, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl := sitetest.NewCluster(t, 2, sluice.Options{StateKeys: tt.keys})
				m := sitetest.Stateless(t, cl.Sites[0], "tools/call", "input", `"name":"input","arguments":{}`).Message(t)
				var r struct{ RequestState string }
				if err := json.Unmarshal(m.Result, &r); err != nil || r.RequestState == "" {
					t.Fatalf("first round: %s", m.Result)
				}
				state, _ := json.Marshal(r.RequestState)
				a := sitetest.Stateless(t, cl.Sites[1], "tools/call", "input",
					`"name":"input","arguments":{},"inputResponses":{"q":{"action":"accept","content":{"x":"yes"}}},"requestState":`+string(state))
				if !tt.ok {
					a.WantStatus(t, "state of a stranger", http.StatusBadRequest)
					return
				}
				a.Want(t, "input yes with state of the handler")
			})
		})
	}
}
