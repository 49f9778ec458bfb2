package large

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

func TestValue(t *testing.T) {
	t.Parallel()
	s := memory.New()
	defer func() { _ = s.Close() }()
	for _, n := range []int{0, 1, inRecord, inRecord + 1, part, part + 1, 3*part + 7, Max} {
		data := []byte(strings.Repeat("x", n))
		v, err := Write(t.Context(), s, "log", data, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if inLog := v.Log != ""; inLog != (n > inRecord) || inLog && v.Here != nil {
			t.Errorf("%d bytes are in a log: %v", n, inLog)
		}
		if got, err := v.Read(t.Context(), s); err != nil || len(got) != n {
			t.Errorf("%d bytes of %d come back, %v", len(got), n, err)
		}
		v.Drop(t.Context(), s)
		if _, err := v.Read(t.Context(), s); v.Log != "" && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%d bytes are still there: %v", n, err)
		}
	}
}
