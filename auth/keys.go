package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
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

var errEmpty = errors.New("the set holds no key")

// keys are the issuer's public keys. The libraries fetch, decode and choose; what is here is only when to
// fetch, because theirs lets requests queue for a fetch, ties a fetch to the request that caused it, and does not
// try again before its interval is over when tokens name no key.
//
// A fetch is caused by a token that needs it: no keys yet, an unknown key ID, keys of an age. There is one at a time, with a
// pause after it. When it fails the keys stay as they are, so that an issuer may be away without taking us along.
type keys struct {
	issuer, url string
	client      *http.Client
	log         *slog.Logger

	current atomic.Pointer[keySet] // nil while there are none

	mu       sync.Mutex
	fetching chan struct{} // closed at the end of the fetch under way; nil if there is none
	next     time.Time     // when the next one may begin
	failed   bool          // the last one
}

type keySet struct {
	choose  jwt.Keyfunc
	fetched time.Time
}

func newKeys(issuer, url string, log *slog.Logger) *keys {
	return &keys{issuer: issuer, url: url, client: newClient(), log: log}
}

// find returns the key that a token claims to be signed with. An error is [errNoKeys] or says that there is none.
func (k *keys) find(ctx context.Context, t *jwt.Token) (any, error) {
	if set := k.current.Load(); set != nil {
		if time.Since(set.fetched) > maxKeyAge {
			k.refresh() // nobody waits: these keys will do meanwhile
		}
		key, err := set.choose(t)
		if !errors.Is(err, jwkset.ErrKeyNotFound) {
			return key, err
		}
	}
	if done := k.refresh(); done != nil {
		select {
		case <-done:
		case <-ctx.Done():
			return nil, errNoKeys
		}
	}
	set := k.current.Load()
	if set == nil {
		return nil, errNoKeys
	}
	key, err := set.choose(t)
	if errors.Is(err, jwkset.ErrKeyNotFound) && k.lastFailed() {
		return nil, errNoKeys // it may be a new key that we could not learn of
	}
	return key, err
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

func (k *keys) load(ctx context.Context) (*keySet, error) {
	url := k.url
	if url == "" {
		var err error
		if url, err = discover(ctx, k.client, k.issuer); err != nil {
			return nil, err
		}
	}
	storage, err := jwkset.NewStorageFromHTTP(url, jwkset.HTTPClientStorageOptions{Client: k.client, Ctx: ctx})
	if err != nil {
		return nil, err
	}
	all, err := storage.KeyReadAll(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: %w", url, errEmpty)
	}
	f, err := keyfunc.New(keyfunc.Options{Storage: storage, UseWhitelist: []jwkset.USE{jwkset.UseSig, ""}})
	if err != nil {
		return nil, err
	}
	return &keySet{f.Keyfunc, time.Now()}, nil
}
