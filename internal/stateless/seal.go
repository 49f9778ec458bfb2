package stateless

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// sealer encrypts what passes through a client and must come back unchanged, from the
// same principal, on the same request, in time (Multi Round-Trip Requests, "Server Requirements").
type sealer struct {
	keys   []cipher.AEAD
	once   sync.Once
	made   bool // the key is our own
	logger *slog.Logger
}

var errSeal = errors.New("requestState is not valid for this request")

// newSealer panics on a key that has not 32 bytes: to go on without would be to go on unprotected.
func newSealer(keys [][]byte, log *slog.Logger) *sealer {
	s := &sealer{logger: log, made: len(keys) == 0}
	if s.made {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		keys = [][]byte{key}
	}
	for i, key := range keys {
		block, err := aes.NewCipher(key)
		if err != nil || len(key) != 32 {
			panic(fmt.Sprintf("sluice: Options.StateKeys[%d] has %d bytes, not 32", i, len(key))) //nolint:forbidigo // a program that is wrong
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			panic("sluice: " + err.Error()) //nolint:forbidigo // the standard library without AES
		}
		s.keys = append(s.keys, aead)
	}
	return s
}

// sealed is what a requestState holds.
type sealed struct {
	Expires int64 `json:"e"` // Unix milliseconds
	// State is the handler's own.
	State string `json:"s,omitempty"`
	// Schemas are those that the answers to input requests must match.
	Schemas map[string]json.RawMessage `json:"i,omitempty"`
}

// seal binds s to a purpose, which says who may bring it back and with which request.
func (z *sealer) seal(purpose string, s sealed, ttl time.Duration) (string, error) {
	z.once.Do(func() {
		if z.made {
			z.logger.Warn("requestState is sealed with a key made at start: set state keys, the same on every replica, for it to outlive this process")
		}
	})
	s.Expires = time.Now().Add(ttl).UnixMilli()
	plain, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(z.keys[0].Seal(nil, nil, plain, []byte(purpose))), nil //nolint:gosec // the AEAD makes its nonces itself
}

// open undoes seal. It returns errSeal for whatever reason: which one is nothing for the client to know.
func (z *sealer) open(purpose, text string) (sealed, error) {
	var s sealed
	// Strict, and no line ends, which the decoder would skip: one state has one text.
	box, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return s, errSeal
	}
	for _, key := range z.keys {
		plain, err := key.Open(nil, nil, box, []byte(purpose))
		if err != nil {
			continue
		}
		if json.Unmarshal(plain, &s) != nil || time.Now().UnixMilli() > s.Expires {
			return sealed{}, errSeal
		}
		return s, nil
	}
	return s, errSeal
}

// purposeOf names the request that a state belongs to: the principal, the method, the name or URI, and the arguments.
func purposeOf(principal, method, name string, arguments []byte) string {
	return fmt.Sprintf("requestState %q %q %q %x", principal, method, name, sha256.Sum256(canonical(arguments)))
}

// canonical returns JSON in one form, whatever the order of members and white space, because a client may
// write the same arguments anew for its retry.
func canonical(raw []byte) []byte {
	if len(raw) == 0 {
		return nil
	}
	var v any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // two large numbers may be one float64
	if err := dec.Decode(&v); err != nil {
		return raw
	}
	out, err := json.Marshal(v)
	if err != nil {
		return raw
	}
	return out
}
