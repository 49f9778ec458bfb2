package once

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// Header is where a client may put its key, as an alternative to _meta (IETF draft-ietf-httpapi-idempotency-key-header). The draft
// has it in quotes; those who leave them out mean the same.
const Header = "Idempotency-Key"

// Declaration is the value of [wire.ExtensionOnce] among the server's capabilities: a client must know that its key is heeded before it
// repeats a call.
func (k *Calls) Declaration() []byte {
	return fmt.Appendf(nil, `{"ttlMs":%d}`, k.TTL.Milliseconds())
}

// maxKey bounds a key, in bytes.
const maxKey = 255

// KeyOf returns the key of a request, from its header or its _meta; "" is none.
func KeyOf(h http.Header, meta wire.Meta) (string, *wire.Error) {
	if h[Header] == nil && meta.IdempotencyKey == nil {
		return "", nil
	}
	var key string
	if values := h[Header]; values != nil {
		key = values[0]
		if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
			key = key[1 : n-1]
		}
		if len(values) > 1 || !readable(key) {
			return "", errKey
		}
	}
	if raw := meta.IdempotencyKey; raw != nil {
		if raw[0] != '"' {
			return "", errKey
		}
		inMeta := wire.Unquote(raw)
		if !readable(inMeta) {
			return "", errKey
		}
		if key != "" && key != inMeta {
			return "", wire.InvalidParams("Invalid params: the idempotency keys in the header and in _meta differ")
		}
		key = inMeta
	}
	return key, nil
}

var errKey = wire.InvalidParams("Invalid params: an idempotency key is one string of 1 to 255 visible ASCII characters")

func readable(key string) bool {
	return key != "" && len(key) <= maxKey && !strings.ContainsFunc(key, func(r rune) bool { return r < '!' || r > '~' })
}

// A Call is one of those that are executed once.
type Call struct {
	Principal, Tool, Key string
	// Revision and Arguments must be those of the first one.
	Revision  string
	Arguments json.RawMessage
	// Answers are what a client has been asked in the call before and answers with this one, and what came with the questions: with other
	// answers it is another call (Multi Round-Trip Requests).
	Answers [2]json.RawMessage
	// Token is the progress token of this very request, raw; nil if it wants to hear of no progress.
	Token []byte
	// Reaches reports whether this very request wants to hear of log messages of a level, given as raw JSON; nil: of all.
	Reaches func(level []byte) bool
	// Repeatable reports whether the call may run again when its replica is lost. It is asked only then.
	Repeatable func() bool

	wanted string // what wants returns, once it was asked for
}

// series names all calls that have the key, whatever answers they bring.
func (c *Call) series() string { return digest(c.Principal, c.Tool, c.Key) }

// name names the call in the store. The key is not in it: it may be a secret that lets others see the outcome.
func (c *Call) name() string {
	if c.Answers[0] == nil && c.Answers[1] == nil {
		return c.series()
	}
	return c.series() + "." + digest(canonical(c.Answers[0]), canonical(c.Answers[1]))
}

// wants tells calls with the same key apart that ask for different things.
func (c *Call) wants() string {
	if c.wanted == "" {
		c.wanted = digest(c.Revision, canonical(c.Arguments))
	}
	return c.wanted
}

func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p) // no part can end as the next one begins, whatever bytes they have
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:24])
}

// canonical returns JSON without what does not matter: white space and the order of members. Nothing is an empty object.
func canonical(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return "{}"
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return string(raw)
	}
	out, err := json.Marshal(v)
	if err != nil {
		return string(raw)
	}
	return string(out)
}
