package view

import (
	"sync"

	"github.com/sluice-mcp/sluice/internal/run"
)

// roomSize is enough for the response of an ordinary call, so that it is written in one go.
const roomSize = 512

// rooms are those that no call uses any more (250 bytes of each call).
var rooms = sync.Pool{New: func() any { return new([roomSize]byte) }}

// Room returns an empty slice to write a call's response into. [Renderer.Respond] takes it back when the response is out.
func Room() []byte { return rooms.Get().(*[roomSize]byte)[:0] } //nolint:forcetypeassert // nothing else is in there

// reuse takes the rooms of responses that have been written. Nobody else may have them: who answers a run gives the bytes away,
// and see [run.Reader.Spend].
func reuse(responses []run.Event) {
	for _, e := range responses {
		if n := cap(e.Data); n >= roomSize && n < 2*roomSize { // not a large one, whose rest would be kept, too
			rooms.Put((*[roomSize]byte)(e.Data[:roomSize]))
		}
	}
}
