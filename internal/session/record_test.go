package session

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mcp/sluice/internal/replica"
	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

// A lagging store answers the next Get with what was there a second ago.
type lagging struct {
	store.Store
	once chan struct{} // has an element when the next Get is late
}

func (l *lagging) Get(ctx context.Context, key string) ([]byte, error) {
	v, err := l.Store.Get(ctx, key)
	select {
	case <-l.once:
		time.Sleep(time.Second)
	default:
	}
	return v, err
}

// What another replica changes in a record is not lost while an older state of it is being read here.
func TestRecordsDoNotGoBack(t *testing.T) {
	t.Parallel()
	const uri = "test://item"
	for name, alive := range map[string]bool{"a session that is alive": true, "a session that comes to life": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := memory.New()
				slow := &lagging{st, make(chan struct{}, 1)}
				here, there := newHouse(t, slow, nil), newHouse(t, st, nil)
				changed := func(id string) {
					body, err := json.Marshal(noteBody{Session: id})
					if err != nil {
						t.Fatal(err)
					}
					here.Take(replica.Note{From: "there", Kind: noteChanged, Body: body})
				}
				s := there.mustFind(there.open("").ID, "")
				if alive {
					here.mustFind(s.ID, "")
				}
				slow.once <- struct{}{}
				found := make(chan *Session)
				go func() {
					if alive {
						changed(s.ID) // something else
					}
					found <- here.mustFind(s.ID, "")
				}()
				synctest.Wait()
				if err := s.SetSubscribed(t.Context(), uri, true); err != nil {
					t.Fatal(err)
				}
				changed(s.ID)
				mine := <-found
				time.Sleep(10 * time.Second)
				if got := mine.Subscribed(); len(got) != 1 || got[0] != uri {
					t.Errorf("subscribed to %q, want %s", got, uri)
				}
				mine.Release()
				if alive {
					mine.Release()
				}
				s.Release()
				here.close()
				there.close()
			})
		})
	}
}
