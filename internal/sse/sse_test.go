package sse_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-mcp/sluice/internal/sse"
)

// readAll reads the stream to its end. Events are written as name, ID and data.
func readAll(t *testing.T, r io.Reader) (events []string, retry time.Duration) {
	t.Helper()
	reader := sse.NewReader(r)
	for {
		e, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return events, reader.Retry()
		} else if err != nil {
			t.Fatal(err)
		}
		id := "-"
		if e.HasID {
			id = e.ID
		}
		events = append(events, fmt.Sprintf("%s|%s|%s", e.Name, id, e.Data))
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		stream string // with \n, for which the other line ends stand in, too
		want   []string
		retry  time.Duration
	}{
		"one":               {"data: a\n\n", []string{"|-|a"}, 0},
		"all fields":        {"event: e\nid: 1\nretry: 20\ndata: a\n\n", []string{"e|1|a"}, 20 * time.Millisecond},
		"lines of data":     {"data: a\ndata:  b\ndata\ndata:c\n\n", []string{"|-|a\n b\n\nc"}, 0},
		"byte order mark":   {"\ufeffdata: a\n\n\ufeffdata: b\n\n", []string{"|-|a"}, 0},
		"comments":          {": hello\n\n:\n\ndata: a\n: more\n\n", []string{"|-|a"}, 0},
		"unknown fields":    {"colour: red\nnothing\n\ndata: a\nData: b\n data: c\n\n", []string{"|-|a"}, 0},
		"no colon":          {"data\n\nid\ndata: b\n\n", []string{"|-|", "||b"}, 0},
		"value with colon":  {"data: a:b\n\n", []string{"|-|a:b"}, 0},
		"blank lines":       {"\n\n\ndata: a\n\n\n\ndata: b\n\n", []string{"|-|a", "|-|b"}, 0},
		"cut event":         {"data: a\n\ndata: b\n", []string{"|-|a"}, 0},
		"cut line":          {"data: a\n\ndata: b", []string{"|-|a"}, 0},
		"only an ID":        {"id: 7\n\n", []string{"|7|"}, 0},
		"ID with NUL":       {"id: 1\nid: 2\x00\ndata: a\n\n", []string{"|1|a"}, 0},
		"bad retry":         {"retry: 1.5\nretry: -1\nretry: +1\nretry:\nretry: x\nretry: 99999999999999999999\n\n", nil, 0},
		"retry counts":      {"retry: 5\n", nil, 5 * time.Millisecond},
		"last name wins":    {"event: a\nevent: b\ndata: x\n\ndata: y\n\n", []string{"b|-|x", "|-|y"}, 0},
		"not valid UTF-8":   {"data: a\xffb\n\n", []string{"|-|a\ufffdb"}, 0},
		"tab stays":         {"data:\ta \n\n", []string{"|-|\ta "}, 0},
		"nothing":           {"", nil, 0},
		"a byte order mark": {"\ufeff", nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mixed := strings.NewReplacer("\n\n", "\r\n\r", "\n", "\r").Replace(tt.stream)
			for ends, stream := range map[string]string{
				"LF": tt.stream, "CRLF": strings.ReplaceAll(tt.stream, "\n", "\r\n"), "CR": strings.ReplaceAll(tt.stream, "\n", "\r"), "mixed": mixed,
			} {
				for pieces, r := range map[string]io.Reader{
					"at once":      strings.NewReader(stream),
					"byte by byte": iotest.OneByteReader(strings.NewReader(stream)),
					"with the end": iotest.DataErrReader(strings.NewReader(stream)),
				} {
					got, retry := readAll(t, r)
					if diff := cmp.Diff(tt.want, got); diff != "" || retry != tt.retry {
						t.Errorf("%s, %s: retry %v, want %v\n%s", ends, pieces, retry, tt.retry, diff)
					}
				}
			}
		})
	}
}

// An event is there when its last line end has begun, whatever comes behind it, or does not come for an hour.
func TestReaderDoesNotWait(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"\n\n", "\r\r", "\r\n\r\n", "\r\n\r", "\n\r"} {
		r, w := io.Pipe()
		reader := sse.NewReader(r)
		for i := range 3 {
			read := make(chan string)
			go func() {
				e, err := reader.Next()
				read <- fmt.Sprintf("%s %v", e.Data, err)
			}()
			if _, err := fmt.Fprintf(w, "data: %d%s", i, end); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-read:
				if want := fmt.Sprintf("%d <nil>", i); got != want {
					t.Errorf("%q: %s, want %s", end, got, want)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%q: event %d does not come", end, i)
			}
		}
	}
}

func TestReaderFails(t *testing.T) {
	t.Parallel()
	cut := errors.New("cut")
	reader := sse.NewReader(io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(cut)))
	if e, err := reader.Next(); string(e.Data) != "a" || err != nil {
		t.Errorf("%q, %v", e.Data, err)
	}
	if _, err := reader.Next(); !errors.Is(err, cut) {
		t.Errorf("error %v", err)
	}
	for name, r := range map[string]io.Reader{
		"line":  io.MultiReader(strings.NewReader("data: "), endless("x")),
		"lines": endless("data: " + strings.Repeat("x", 1<<20) + "\n"),
	} {
		if _, err := sse.NewReader(r).Next(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s without end: %v", name, err)
		}
	}
}

type endless string

func (e endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], e)
	}
	return n, nil
}

// FuzzReader holds the reader to the standard's own way to say it: first all line ends, then the lines.
func FuzzReader(f *testing.F) {
	f.Add("data: a\r\rid: 1\r\n\r\nevent: x\ndata: b\n\n")
	f.Fuzz(func(t *testing.T, stream string) {
		var want []string
		text := strings.ReplaceAll(strings.ReplaceAll(strings.TrimPrefix(stream, "\ufeff"), "\r\n", "\n"), "\r", "\n")
		name, id, data, fields := "", "-", "", false
		for line := range strings.Lines(text) {
			line, whole := strings.CutSuffix(line, "\n")
			if !whole {
				break
			}
			field, value, _ := strings.Cut(line, ":")
			value = strings.TrimPrefix(value, " ")
			switch {
			case line == "" && fields:
				want = append(want, name+"|"+id+"|"+strings.ToValidUTF8(strings.TrimSuffix(data, "\n"), "\ufffd"))
				name, id, data, fields = "", "-", "", false
			case field == "event":
				name, fields = value, true
			case field == "data":
				data, fields = data+value+"\n", true
			case field == "id" && !strings.Contains(value, "\x00"):
				id, fields = value, true
			case field == "retry" && value != "" && len(value) < 9 && strings.Trim(value, "0123456789") == "":
				fields = true
			case field == "retry" && len(value) >= 9:
				t.Skip()
			}
		}
		got, _ := readAll(t, strings.NewReader(stream))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q\n%s", stream, diff)
		}
	})
}
