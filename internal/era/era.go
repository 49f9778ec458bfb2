// Package era reads a request as far as all revisions agree, and says which era it belongs to: the one with
// sessions, until 2025-11-25, or the stateless one, from 2026-07-28 on. What the revisions of an era ask of a message is for the
// rooms of the eras to know.
package era

import (
	"errors"
	"io"
	"net/http"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// A Reader reads requests.
type Reader struct {
	// MaxBody bounds a body, in bytes.
	MaxBody int64
	// Revisions returns the revisions that the server of a request speaks: its options may have narrowed what the endpoint serves.
	// Nil stands for a request that no server is chosen for.
	Revisions func(*http.Request) []string
	// Observer is told of bodies that are turned away. It may be nil.
	Observer observe.Observer
}

// A Post is what a POST brings: one message, or a batch.
type Post struct {
	Message wire.Message
	Batch   []wire.Element // not nil if it is one
	// Malformed says what is wrong with a message that was to be a response: it must reach whoever waits for that.
	Malformed *wire.Error
	// Stateless tells that the message belongs to the stateless era.
	Stateless bool
}

// Post reads a POST. When it reports false, it has answered.
func (d *Reader) Post(w http.ResponseWriter, r *http.Request) (Post, bool) {
	if json, stream := accepts(r.Header); !json || !stream { // as every revision requires of a client
		answer.Error(w, http.StatusNotAcceptable, "", wire.InvalidRequest("Accept must list both application/json and text/event-stream"))
		return Post{}, false
	}
	p, ok := d.Messages(w, r)
	if !ok {
		return Post{}, false
	}
	refuse := func(e *wire.Error) (Post, bool) {
		answer.Error(w, http.StatusBadRequest, p.Message.ID, e)
		return Post{}, false
	}
	header := r.Header[wire.HeaderVersion]
	if len(header) > 1 {
		return refuse(wire.HeaderMismatch("Header mismatch: MCP-Protocol-Version is given more than once"))
	}
	if len(header) == 1 && !wire.Served(header[0]) {
		return refuse(d.unsupported(r, header[0]))
	}
	stateless := len(header) == 1 && wire.Modern(header[0])
	if stateless && p.Malformed != nil { // nobody waits for responses there: it may as well be a request without its method
		return refuse(p.Malformed)
	}
	if p.Batch != nil {
		if stateless {
			return refuse(wire.InvalidRequest("Invalid request: batches ended with revision 2025-03-26"))
		}
		return p, true
	}
	p.Stateless = stateless || p.Message.Kind == wire.Request && claimsStateless(p.Message.Params)
	return p, true
}

// claimsStateless reports whether a request has the per-request metadata of the stateless era
// (versioning: "a request carrying modern per-request _meta is served statelessly").
func claimsStateless(params []byte) bool {
	if len(params) == 0 {
		return false
	}
	version := wire.Member(wire.Member(params, "_meta"), wire.MetaProtocolVersion)
	return version != nil && (!wire.Served(wire.Unquote(version)) || wire.Modern(wire.Unquote(version)))
}

// Sessions reports whether a GET or DELETE may be one of the era that has them. When it reports false, it has answered.
func (d *Reader) Sessions(w http.ResponseWriter, r *http.Request) bool {
	v := r.Header.Get(wire.HeaderVersion)
	switch {
	case v == "":
		return true
	case !wire.Served(v):
		answer.Error(w, http.StatusBadRequest, "", d.unsupported(r, v))
		return false
	case wire.Modern(v): // streamable-http, "Earlier Streamable HTTP Revisions"
		w.Header().Set("Allow", "POST")
		answer.Error(w, http.StatusMethodNotAllowed, "", wire.InvalidRequest("Method not allowed: revision "+v+" has only POST"))
		return false
	}
	return true
}

// unsupported answers a version that the endpoint does not serve with those that can be had here (versioning, "Version
// Negotiation").
func (d *Reader) unsupported(r *http.Request, version string) *wire.Error {
	if spoken := d.Revisions(r); spoken != nil {
		return wire.UnsupportedBy(spoken, version)
	}
	return wire.UnsupportedVersion(version)
}

// Messages reads the message, or the batch, in a bounded body of the right type. When it reports false, it has answered.
func (d *Reader) Messages(w http.ResponseWriter, r *http.Request) (Post, bool) {
	if !isJSON(r.Header) {
		answer.Error(w, http.StatusUnsupportedMediaType, "", wire.InvalidRequest("Content-Type must be application/json"))
		return Post{}, false
	}
	body, err := d.body(w, r)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		d.refused(r, observe.RefusedBody)
		answer.Error(w, http.StatusRequestEntityTooLarge, "", wire.InvalidRequest("Request body is too large"))
		return Post{}, false
	case err != nil:
		answer.Error(w, http.StatusBadRequest, "", wire.InvalidRequest("Request body could not be read"))
		return Post{}, false
	}
	one, batch, e := wire.ParseBody(body)
	if e != nil && one.Kind != wire.Response {
		d.refused(r, observe.RefusedMalformed)
		answer.Error(w, http.StatusBadRequest, one.ID, e)
		return Post{}, false
	}
	return Post{Message: one, Batch: batch, Malformed: e}, true
}

func (d *Reader) refused(r *http.Request, why observe.RefuseReason) {
	observed.Tell(r.Context(), d.Observer, observe.Refused{Reason: why})
}

// usual is what an ordinary body fits into, in bytes.
const usual = 16 << 10

func (d *Reader) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if n := r.ContentLength; n >= 0 && n <= min(usual, d.MaxBody) {
		body := make([]byte, n) // net/http keeps the body to its length
		_, err := io.ReadFull(r.Body, body)
		return body, err
	}
	// Room is made as it arrives: to promise a large body costs its sender nothing.
	return io.ReadAll(http.MaxBytesReader(w, r.Body, d.MaxBody))
}
