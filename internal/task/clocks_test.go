package task

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store/memory"
)

func newKeeper(t *testing.T, s *memory.Memory, name string) *Keeper {
	k := New(Config{Store: s, Log: slog.New(slog.DiscardHandler), Name: name, Max: 10, MaxPerPrincipal: 10})
	t.Cleanup(k.Close)
	return k
}

// The clocks of replicas differ: nobody fails what another one works on just because its own clock says so.
func TestClocksDiffer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		owner string
		late  time.Duration
		want  Status
	}{
		"in time":                       {"other", -time.Minute, Working},
		"late, by the clock of another": {"other", grace - time.Second, Working},
		"late by any clock":             {"other", grace + time.Second, Failed},
		"late, and nobody works on it":  {"", time.Second, Failed},
		"late by its owner's own clock": {"here", time.Second, Failed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := memory.New()
			t.Cleanup(func() { _ = s.Close() })
			k := newKeeper(t, s, "here")
			ttl := time.Minute
			created := time.Now().Add(-ttl - tt.late)
			put := func(id string) {
				raw, err := json.Marshal(&Record{ID: id, Status: Working, Owner: tt.owner, Round: 1, Created: created.UnixMilli(), TTL: ttl.Milliseconds(), Keep: time.Hour.Milliseconds()})
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Put(t.Context(), recordKey(id), raw, 0); err != nil {
					t.Fatal(err)
				}
			}
			put("get")
			put("update")
			if r, _, err := k.Get(t.Context(), "get", ""); err != nil || r.Status != tt.want {
				t.Errorf("it is %+v, %v", r, err)
			}
			if err := k.Update(t.Context(), "update", "", map[string]json.RawMessage{"q.1": []byte("{}")}, nil, nil); err != nil {
				t.Error(err)
			}
			if r, err := k.Look(t.Context(), "update", ""); err != nil || r.Status != tt.want {
				t.Errorf("after an answer it is %+v, %v", r, err)
			}
		})
	}
}

// A keeper that is closed takes nothing on, whoever asks.
func TestClosed(t *testing.T) {
	t.Parallel()
	s := memory.New()
	defer s.Close()
	k := newKeeper(t, s, "here")
	record, err := k.Create(t.Context(), &Record{TTL: 1000, Keep: 1000, Round: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	k.Close()
	ran := func(context.Context, *Record, json.RawMessage, func(string)) Outcome {
		t.Error("it runs")
		return Outcome{Err: wire.Internal("")}
	}
	k.Begin(record, ran)
	if n := k.Working(); n != 0 {
		t.Errorf("%d tasks are worked on", n)
	}
	if _, err := k.Create(t.Context(), &Record{TTL: 1000}, nil); err == nil {
		t.Error("another one is created")
	}
	if err := k.Update(t.Context(), record.ID, "", nil, nil, ran); err == nil {
		t.Error("it is updated")
	}
}

// What is no ID of ours is not looked for.
func TestLongIDs(t *testing.T) {
	t.Parallel()
	s := memory.New()
	defer s.Close()
	k := newKeeper(t, s, "here")
	id := strings.Repeat("x", 1<<20)
	if err := s.Put(t.Context(), recordKey(id), []byte("{}"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Look(t.Context(), id, ""); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}
