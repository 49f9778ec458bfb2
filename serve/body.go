package serve

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// limitBody gives each request's body a time to arrive in. [http.Server.ReadTimeout] would do the same, but
// its deadline stays on the connection after the body, and there it ends the read by
// which the server notices that a client has gone: an open stream would be cut.
func limitBody(next http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			control := http.NewResponseController(w)
			if err := control.SetReadDeadline(time.Now().Add(timeout)); err == nil {
				r.Body = &timedBody{ReadCloser: r.Body, control: control}
			}
		}
		next.ServeHTTP(w, r)
	})
}

// A timedBody lifts its connection's read deadline as soon as the body is complete.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
	lift    sync.Once
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.lift.Do(func() { _ = b.control.SetReadDeadline(time.Time{}) })
	}
	return n, err
}
