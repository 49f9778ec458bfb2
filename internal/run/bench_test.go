package run

import (
	"net/http"
	"testing"
)

// BenchmarkAnswer is a run that answers at once, as a fast call is: begun, read by one response, and ended.
func BenchmarkAnswer(b *testing.B) {
	response := []byte(`{"jsonrpc":"2.0","id":7,"result":{}}`)
	b.ReportAllocs()
	for b.Loop() {
		st := NewStream("", 1)
		r := Start(b.Context(), "", "7", "tools/call", st)
		rd := st.Attach(-1)
		r.Answer(response, http.StatusOK)
		if _, whole, _ := rd.Whole(); !whole {
			b.Fatal("no answer")
		}
	}
}

// BenchmarkSend is one message from a handler to the response that shows it, while hundreds wait.
func BenchmarkSend(b *testing.B) {
	message := []byte(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1}}`)
	st := NewStream("", 1)
	rd := st.Attach(-1)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := st.Send(b.Context(), message); err != nil {
			b.Fatal(err)
		}
		if i%(MaxEvents/4) == 0 {
			if _, _, err := rd.Next(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
