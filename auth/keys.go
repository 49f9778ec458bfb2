package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxKeyAge is how long after its removal at the issuer a key may still be accepted, as long as the issuer can be asked.
	maxKeyAge = 15 * time.Minute
	// refetchPause is the least time between two fetches, whatever tokens come.
	refetchPause = 10 * time.Second
	fetchTimeout = 5 * time.Second
)

// errNoKeys tells that a token could be neither accepted nor refused.
var errNoKeys = errors.New("the authorization server's keys are not available")

// keys are one issuer's public keys. What is here is when to fetch them; what they are is in [keySet].
//
// A fetch is caused by a token that needs it: no keys yet, none that verifies the token, keys of an age. There is one at a time,
// with a pause after it. When it fails the keys stay as they are, so that an issuer may be away without taking us along.
type keys struct {
	issuer, url string
	client      *http.Client
	log         *slog.Logger

	current atomic.Pointer[keySet] // nil while there are none

	mu       sync.Mutex
	fetching chan struct{} // closed at the end of the fetch under way; nil if there is none
	next     time.Time     // when the next one may begin
	failed   bool          // the last one
	ignored  []string      // keys that the log knows of; the fetch's own
}

func newKeys(issuer, url string, client *http.Client, log *slog.Logger) *keys {
	return &keys{issuer: issuer, url: url, client: client, log: log}
}

// known returns the keys at hand, or waits for the first ones. Its error is [errNoKeys].
func (k *keys) known(ctx context.Context) (*keySet, error) {
	if set := k.current.Load(); set != nil {
		if time.Since(set.fetched) > maxKeyAge {
			k.refresh() // nobody waits: these keys will do meanwhile
		}
		return set, nil
	}
	return k.newer(ctx, nil)
}

// newer returns keys that were fetched after others, with which a token could not be verified: a new key may have come since, under a new
// ID, under the same one or under none. It returns nil if there are none yet, and [errNoKeys] if that cannot be known.
func (k *keys) newer(ctx context.Context, than *keySet) (*keySet, error) {
	if done := k.refresh(); done != nil {
		select {
		case <-done:
		case <-ctx.Done():
			return nil, errNoKeys
		}
	}
	set := k.current.Load()
	if set != nil && set != than {
		return set, nil
	}
	if set == nil || k.lastFailed() {
		return nil, errNoKeys
	}
	return nil, nil
}

func (k *keys) lastFailed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failed
}

// refresh begins a fetch, or joins the one under way, and returns what is closed at its end; nil if it is too early for another.
func (k *keys) refresh() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fetching == nil {
		if time.Now().Before(k.next) {
			return nil
		}
		k.fetching = make(chan struct{})
		go k.fetch(k.fetching)
	}
	return k.fetching
}

func (k *keys) fetch(done chan<- struct{}) {
	// Not the request's context: others wait for this too.
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	set, err := k.load(ctx)
	if err == nil || errors.Is(err, errEmpty) { // an empty set takes every key back
		k.current.Store(set)
	}
	if set != nil {
		k.report(set.ignored)
	}
	if err != nil {
		k.log.Warn("cannot fetch the authorization server's keys", "issuer", k.issuer, "error", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failed = err != nil
	k.next = time.Now().Add(refetchPause)
	k.fetching = nil
	close(done)
}

// report tells of keys that cannot be used, of each once.
func (k *keys) report(ignored []string) {
	for _, what := range ignored {
		if !slices.Contains(k.ignored, what) {
			k.log.Warn("a key of the authorization server cannot be used and is ignored", "issuer", k.issuer, "key", what)
		}
	}
	k.ignored = ignored
}

func (k *keys) load(ctx context.Context) (*keySet, error) {
	url := k.url
	if url == "" {
		var err error
		if url, err = discover(ctx, k.client, k.issuer); err != nil {
			return nil, err
		}
	}
	document, err := get(ctx, k.client, url)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	set, err := parseKeySet(document)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	return set, nil
}
