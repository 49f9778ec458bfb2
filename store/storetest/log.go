package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/sluice-mcp/sluice/store"
)

var logCases = map[string]func(t *testing.T, s store.Store){
	"absent": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		_, _, err := s.Read(ctx, "l", 0, 10)
		wantErr(t, err, store.ErrNotFound, "Read")
		_, _, err = s.Read(ctx, "l", 7, 10)
		wantErr(t, err, store.ErrNotFound, "Read further on")
		wantErr(t, s.Append(ctx, "l", 1, data("a"), store.Bounds{}), store.ErrFenced, "Append")
		_, _, err = s.Read(ctx, "l", 0, 10)
		wantErr(t, err, store.ErrNotFound, "Read after a failed Append")
		must(t, s.Drop(ctx, "l"))
	},

	"append and read": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		must(t, s.Append(ctx, "l", 0, data("a"), store.Bounds{}))
		must(t, s.Append(ctx, "l", 1, data("b", "", "d\x00\xff\r\n"), store.Bounds{TTL: long}))
		must(t, s.Append(ctx, "l", 4, data("e"), store.Bounds{}))
		wantLog(t, s, "l", 0, "a", "b", "", "d\x00\xff\r\n", "e")
		wantLog(t, s, "l", 3, "d\x00\xff\r\n", "e")
		for _, from := range []int64{5, 6, 1 << 40} {
			got, next, err := s.Read(ctx, "l", from, 10)
			if err != nil || len(got) != 0 || next != 5 {
				t.Errorf("Read from %d: got %v, %d, %v, want none, 5, nil", from, got, next, err)
			}
		}
	},

	"read is limited": func(t *testing.T, s store.Store) {
		must(t, s.Append(t.Context(), "l", 0, data("a", "b", "c"), store.Bounds{}))
		for limit, want := range []int{0, 1, 2, 3, 3} {
			got, next, err := s.Read(t.Context(), "l", 0, limit)
			if err != nil || len(got) != want || next != 3 {
				t.Errorf("limit %d: got %v, %d, %v", limit, got, next, err)
			}
		}
	},

	"a stale append fails": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		must(t, s.Append(ctx, "l", 0, data("a", "b"), store.Bounds{}))
		for _, at := range []int64{0, 1, 3, 1 << 40, -1} {
			wantErr(t, s.Append(ctx, "l", at, data("x", "y"), store.Bounds{}), store.ErrFenced, fmt.Sprint("at ", at))
			wantErr(t, s.Append(ctx, "l", at, nil, store.Bounds{}), store.ErrFenced, fmt.Sprint("nothing at ", at))
		}
		wantLog(t, s, "l", 0, "a", "b")
	},

	"each index has one winner": func(t *testing.T, s store.Store) {
		const writers, rounds = 8, 25
		var winners [rounds]atomic.Int32
		var winner [rounds]atomic.Int32
		together(writers, func(w int) {
			for at := range rounds {
				switch err := s.Append(t.Context(), "l", int64(at), data(fmt.Sprint(w)), store.Bounds{}); {
				case err == nil:
					winners[at].Add(1)
					winner[at].Store(int32(w))
				case !errors.Is(err, store.ErrFenced):
					t.Error(err)
				}
			}
		})
		want := make([]string, rounds)
		for at := range rounds {
			if n := winners[at].Load(); n != 1 {
				t.Errorf("index %d: %d won, want 1", at, n)
			}
			want[at] = fmt.Sprint(winner[at].Load())
		}
		wantLog(t, s, "l", 0, want...)
	},

	"append nothing": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		sub := subscribe(t, s, "l")
		must(t, s.Append(ctx, "l", 0, nil, store.Bounds{}))
		wantLog(t, s, "l", 0)
		must(t, s.Append(ctx, "l", 0, data("a"), store.Bounds{TTL: long}))
		must(t, s.Append(ctx, "l", 1, nil, store.Bounds{TTL: short}))
		for range 3 {
			if m := receive(t, sub); m.Topic != "l" {
				t.Errorf("got %+v", m)
			}
		}
		waitDropped(t, s, "l")
	},

	"entries belong to the store": func(t *testing.T, s store.Store) {
		v := []byte("aaa")
		must(t, s.Append(t.Context(), "l", 0, [][]byte{v}, store.Bounds{}))
		copy(v, "bbb")
		wantLog(t, s, "l", 0, "aaa")
	},

	"bound in entries": func(t *testing.T, s store.Store) {
		ctx, b := t.Context(), store.Bounds{Entries: 3}
		must(t, s.Append(ctx, "l", 0, data("0", "1"), b))
		must(t, s.Append(ctx, "l", 2, data("2"), b))
		wantLog(t, s, "l", 0, "0", "1", "2")
		must(t, s.Append(ctx, "l", 3, data("3"), b))
		wantTrimmed(t, s, "l", 0, 4)
		wantLog(t, s, "l", 1, "1", "2", "3")
		must(t, s.Append(ctx, "l", 4, data("4", "5", "6", "7", "8"), b))
		wantTrimmed(t, s, "l", 5, 9)
		wantLog(t, s, "l", 6, "6", "7", "8")
		must(t, s.Append(ctx, "l", 9, data("9"), store.Bounds{Entries: 1}))
		wantTrimmed(t, s, "l", 8, 10)
		wantLog(t, s, "l", 9, "9")
		must(t, s.Append(ctx, "l", 10, data("10", "11"), store.Bounds{}))
		wantLog(t, s, "l", 9, "9", "10", "11")
	},

	"bound in bytes": func(t *testing.T, s store.Store) {
		ctx, b := t.Context(), store.Bounds{Bytes: 10}
		must(t, s.Append(ctx, "l", 0, data("4444", "333", "333"), b))
		wantLog(t, s, "l", 0, "4444", "333", "333")
		must(t, s.Append(ctx, "l", 3, data("1"), b))
		wantTrimmed(t, s, "l", 0, 4)
		wantLog(t, s, "l", 1, "333", "333", "1")
		must(t, s.Append(ctx, "l", 4, data("333", "55555"), b))
		wantTrimmed(t, s, "l", 2, 6)
		wantLog(t, s, "l", 3, "1", "333", "55555")
		must(t, s.Append(ctx, "l", 6, data("larger than the bound"), b))
		wantTrimmed(t, s, "l", 5, 7)
		wantLog(t, s, "l", 6, "larger than the bound")
		must(t, s.Append(ctx, "l", 7, data("55555", "666666"), b))
		wantTrimmed(t, s, "l", 7, 9)
		wantLog(t, s, "l", 8, "666666")
		must(t, s.Append(ctx, "l", 9, data("1"), b))
		wantLog(t, s, "l", 8, "666666", "1")
		must(t, s.Append(ctx, "l", 10, data("55555"), store.Bounds{}))
		must(t, s.Append(ctx, "l", 11, nil, store.Bounds{Bytes: 1}))
		wantTrimmed(t, s, "l", 9, 11)
		wantLog(t, s, "l", 10, "55555")
	},

	"default bounds": func(t *testing.T, s store.Store) {
		many := make([][]byte, 10_500)
		must(t, s.Append(t.Context(), "many", 0, many, store.Bounds{}))
		wantTrimmed(t, s, "many", 499, 10_500)
		got, _, err := s.Read(t.Context(), "many", 500, 20_000)
		if err != nil || len(got) != 10_000 {
			t.Errorf("got %d entries, %v, want 10000", len(got), err)
		}
		mib := bytes.Repeat([]byte("x"), 1<<20)
		for i := range int64(9) {
			must(t, s.Append(t.Context(), "big", i, [][]byte{mib}, store.Bounds{}))
		}
		wantTrimmed(t, s, "big", 0, 9)
		got, _, err = s.Read(t.Context(), "big", 1, 8)
		if err != nil || len(got) != 8 || !bytes.Equal(got[7].Data, mib) {
			t.Errorf("got %d entries, %v, want 8", len(got), err)
		}
	},

	"a long log": func(t *testing.T, s store.Store) {
		b := store.Bounds{Entries: 5}
		for i := range int64(200) {
			must(t, s.Append(t.Context(), "l", i, data(fmt.Sprint(i)), b))
		}
		wantTrimmed(t, s, "l", 194, 200)
		wantLog(t, s, "l", 195, "195", "196", "197", "198", "199")
	},

	"expiry": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		must(t, s.Append(ctx, "gone", 0, data("a"), store.Bounds{TTL: long}))
		must(t, s.Append(ctx, "gone", 1, data("b"), store.Bounds{TTL: short}))
		must(t, s.Append(ctx, "long", 0, data("a"), store.Bounds{TTL: short}))
		must(t, s.Append(ctx, "long", 1, data("b"), store.Bounds{TTL: long}))
		must(t, s.Append(ctx, "forever", 0, data("a"), store.Bounds{TTL: short}))
		must(t, s.Append(ctx, "forever", 1, data("b"), store.Bounds{}))
		waitDropped(t, s, "gone")
		must(t, s.Append(ctx, "clock", 0, data("c"), store.Bounds{TTL: short}))
		waitDropped(t, s, "clock")
		wantLog(t, s, "long", 0, "a", "b")
		wantLog(t, s, "forever", 0, "a", "b")
		wantErr(t, s.Append(ctx, "gone", 2, data("c"), store.Bounds{}), store.ErrFenced, "Append to what expired")
		must(t, s.Append(ctx, "gone", 0, data("anew"), store.Bounds{}))
		wantLog(t, s, "gone", 0, "anew")
	},

	"drop": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		must(t, s.Append(ctx, "l", 0, data("a", "b"), store.Bounds{}))
		must(t, s.Drop(ctx, "l"))
		_, _, err := s.Read(ctx, "l", 0, 1)
		wantErr(t, err, store.ErrNotFound, "Read")
		wantErr(t, s.Append(ctx, "l", 2, data("c"), store.Bounds{}), store.ErrFenced, "Append")
		must(t, s.Append(ctx, "l", 0, data("anew"), store.Bounds{}))
		wantLog(t, s, "l", 0, "anew")
	},

	"append is announced": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		sub := subscribe(t, s, "l")
		must(t, s.Append(ctx, "other", 0, data("a"), store.Bounds{}))
		wantErr(t, s.Append(ctx, "l", 5, data("a"), store.Bounds{}), store.ErrFenced, "Append")
		must(t, s.Append(ctx, "l", 0, data("a", "b"), store.Bounds{}))
		_, err := s.Publish(ctx, "l", []byte("end"))
		must(t, err)
		if m := receive(t, sub); m.Topic != "l" || len(m.Data) != 0 {
			t.Errorf("got %+v, want an empty message", m)
		}
		if m := receive(t, sub); string(m.Data) != "end" {
			t.Errorf("got %+v, want the one sent last", m)
		}
	},

	"odd names": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		for _, name := range oddNames[1:] { // an empty topic means lost messages
			sub := subscribe(t, s, name)
			must(t, s.Append(ctx, name, 0, data(name), store.Bounds{TTL: long}))
			wantLog(t, s, name, 0, name)
			if m := receive(t, sub); m.Topic != name {
				t.Errorf("got %.40q, want %.40q", m.Topic, name)
			}
			must(t, s.Drop(ctx, name))
			must(t, sub.Close())
		}
	},
}

func data(entries ...string) [][]byte {
	d := make([][]byte, len(entries))
	for i := range entries {
		d[i] = []byte(entries[i])
	}
	return d
}

// wantLog checks that log ends in want, which begins at index from.
func wantLog(t *testing.T, s store.Store, log string, from int64, want ...string) {
	t.Helper()
	got, next, err := s.Read(t.Context(), log, from, len(want)+1)
	if err != nil {
		t.Errorf("Read: %v", err)
		return
	}
	if end := from + int64(len(want)); next != end || len(got) != len(want) {
		t.Errorf("got %d entries, next %d, want %d, %d", len(got), next, len(want), end)
		return
	}
	for i, e := range got {
		if e.Index != from+int64(i) || string(e.Data) != want[i] {
			t.Errorf("got %d %.40q, want %d %.40q", e.Index, e.Data, from+int64(i), want[i])
		}
	}
}

func wantTrimmed(t *testing.T, s store.Store, log string, from, next int64) {
	t.Helper()
	got, n, err := s.Read(t.Context(), log, from, 1)
	wantErr(t, err, store.ErrTrimmed, fmt.Sprint("Read from ", from))
	if len(got) != 0 || n != next {
		t.Errorf("got %v, next %d, want none, %d", got, n, next)
	}
}

func waitDropped(t *testing.T, s store.Store, log string) {
	t.Helper()
	eventually(t, log+" expires", func() bool {
		_, _, err := s.Read(t.Context(), log, 0, 1)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		return err != nil
	})
}
