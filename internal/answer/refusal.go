package answer

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// A Refusal says why a request was not begun.
type Refusal struct {
	Status int
	Err    *wire.Error
	// Reason is what an observer is told, empty when the request itself is at fault.
	Reason observe.RefuseReason
	// After is how long the client is told to wait before it sends the request again. Zero says nothing: the
	// same request would be refused again.
	After time.Duration
}

// Refuse returns a refusal that waiting does not mend.
func Refuse(status int, e *wire.Error) *Refusal { return &Refusal{Status: status, Err: e} }

// Busy returns the refusal of a request that may be sent again after a while: a limit is reached, the store is away, or this
// replica leaves.
func Busy(reason observe.RefuseReason, status int, why string, after time.Duration) *Refusal {
	return &Refusal{status, &wire.Error{Code: wire.CodeBusy, Message: why}, reason, after}
}

// Leaving returns the refusal of new work by a replica that drains.
func Leaving() *Refusal {
	return Busy(observe.RefusedDraining, http.StatusServiceUnavailable, "the server is shutting down", RetryAfter)
}

// Tell tells an observer, who may be nil.
func (f *Refusal) Tell(ctx context.Context, o observe.Observer) {
	if f.Reason != "" {
		observed.Tell(ctx, o, observe.Refused{Reason: f.Reason})
	}
}

// Write answers the request with the given ID; an empty one means that none could be read.
func (f *Refusal) Write(w http.ResponseWriter, id wire.ID) {
	if f.After > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(max(1, f.After.Seconds()))))
	}
	Error(w, f.Status, id, f.Err)
}
