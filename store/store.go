// Package store says what the endpoint needs of the place where its state lives:
// a KV, a Log and a Bus. One package below it holds one backend each;
// storetest is the contract suite that every backend passes.
package store

import (
	"context"
	"errors"
	"time"
)

// Errors that every backend returns, wrapped with context.
var (
	// ErrNotFound: no such key, or no such log (it expired or was never written).
	ErrNotFound = errors.New("store: not found")
	// ErrExists: Create found the key taken.
	ErrExists = errors.New("store: already exists")
	// ErrConflict: Swap found another value than the expected one.
	ErrConflict = errors.New("store: value changed")
	// ErrFenced: Append found that the log does not end where the writer said; somebody else has written.
	ErrFenced = errors.New("store: fenced off")
	// ErrTrimmed: Read was asked for entries that have been dropped to keep the log within its bounds.
	ErrTrimmed = errors.New("store: entries no longer kept")
	// ErrUnavailable: the backend could not be reached, or refused; nothing is known of the outcome of a write.
	ErrUnavailable = errors.New("store: unavailable")
	// ErrClosed: the store or subscription has been closed.
	ErrClosed = errors.New("store: closed")
)

// A Store is everything that replicas share. All methods are safe for concurrent use.
//
// Keys, log names and topics are arbitrary bytes, each kind with a space of its own; a topic is not empty.
// What a caller passes in is copied; what it gets back may be shared and must not be changed.
// When ctx is done a call fails with an error that wraps both ErrUnavailable and ctx's error: its outcome is unknown.
// Errors do not carry keys, which may be credentials.
type Store interface {
	KV
	Log
	Bus
	// Ping reports whether the backend does what calls need, writes included; the error wraps ErrUnavailable and says why not.
	Ping(ctx context.Context) error
	// Close frees the backend's resources. It is idempotent; later calls return ErrClosed.
	Close() error
}

// KV holds small records. Keys and values are arbitrary; a value is at most 1 MiB.
// A ttl of zero or less means that the record does not expire.
type KV interface {
	// Get returns the value. Errors: ErrNotFound, ErrUnavailable.
	Get(ctx context.Context, key string) ([]byte, error)
	// Put sets the value whatever was there. Errors: ErrUnavailable.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Create sets the value if the key is absent. Errors: ErrExists, ErrUnavailable.
	Create(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Swap replaces old by value, atomically. Errors: ErrNotFound, ErrConflict, ErrUnavailable.
	Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) error
	// Touch sets the time to live anew. Errors: ErrNotFound, ErrUnavailable.
	Touch(ctx context.Context, key string, ttl time.Duration) error
	// Delete removes the key; an absent key is not an error. Errors: ErrUnavailable.
	Delete(ctx context.Context, key string) error
}

// Bounds limit one log. A log over its bounds drops its oldest entries.
type Bounds struct {
	// Entries is the largest number kept. Zero means 10 000.
	Entries int
	// Bytes is the largest sum of entry sizes kept. Zero means 8 MiB. The newest entry is always kept.
	Bytes int
	// TTL is how long the log is kept after its last append. Zero means that it does not expire.
	TTL time.Duration
}

// Limits returns Entries and Bytes with their zero values resolved, for backends.
func (b Bounds) Limits() (entries, bytes int) {
	entries, bytes = b.Entries, b.Bytes
	if entries <= 0 {
		entries = 10_000
	}
	if bytes <= 0 {
		bytes = 8 << 20
	}
	return entries, bytes
}

// An Entry is one element of a log.
type Entry struct {
	Index int64
	Data  []byte
}

// Log is a set of append-only logs. The first entry of a log has index 0.
type Log interface {
	// Append adds entries at index at, all or none, and is the fence: it fails when the log's next
	// index is not at. An absent log's next index is 0. Every append is published as an empty message on the
	// Bus topic that has the log's name, in the same round trip. An append of no entries does all the same,
	// so it is a way to check the fence and to renew the TTL.
	// Errors: ErrFenced (also when at > 0 and the log is absent), ErrUnavailable.
	Append(ctx context.Context, log string, at int64, entries [][]byte, b Bounds) error
	// Read returns up to limit entries from index from on, in order, and the log's next index.
	// Nothing there yet is no error, and a limit of 0 asks only for next. Errors: ErrNotFound (no such log),
	// ErrTrimmed (next is valid with it), ErrUnavailable.
	Read(ctx context.Context, log string, from int64, limit int) (entries []Entry, next int64, err error)
	// Drop deletes the log; an absent one is not an error. Errors: ErrUnavailable.
	Drop(ctx context.Context, log string) error
}

// A Message came over the Bus.
type Message struct {
	Topic string
	Data  []byte
}

// Bus carries messages to whoever subscribes at that moment, at most once, in order per publisher and topic.
type Bus interface {
	// Publish returns whether, and roughly how often, the message was handed on: 0 means that nobody
	// had subscribed on any replica. Above 0 a backend may count subscriptions or replicas.
	// A replica's subscriptions vanish with its process. Errors: ErrUnavailable.
	Publish(ctx context.Context, topic string, data []byte) (receivers int, err error)
	// Receivers returns what Publish would, without sending anything. Errors: ErrUnavailable.
	Receivers(ctx context.Context, topic string) (int, error)
	// Subscribe is in effect when it returns. Errors: ErrUnavailable, ErrClosed.
	Subscribe(ctx context.Context, topics ...string) (Subscription, error)
}

// A Subscription delivers messages until it is closed. A lost connection is mended by the
// backend; because messages may have been missed meanwhile, it then delivers one Message with
// an empty Topic, so that the receiver reads afresh what it follows.
type Subscription interface {
	// C is closed when the subscription or its store is closed. The backend buffers; a receiver that falls
	// behind loses messages and gets the same empty Message as after a lost connection.
	C() <-chan Message
	// Add adds topics, all or none, and is in effect when it returns. Errors: ErrUnavailable, ErrClosed.
	Add(ctx context.Context, topics ...string) error
	// Remove removes topics. Nothing more is delivered for them but what C holds already, not even what has been
	// published and has not arrived. Receivers may count them a moment longer; so it is with Close.
	// Errors: ErrUnavailable, ErrClosed.
	Remove(ctx context.Context, topics ...string) error
	// Close is idempotent and returns nil.
	Close() error
}
