// Package stdio owns the transport of that name: messages as lines. What reads them here goes on after a line that is no
// message, and says what was wrong with it (JSON-RPC 2.0, 5.1).
package stdio

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// MaxLine bounds what is held of one line, in bytes.
const MaxLine = 64 << 20

// A Line is what the other side has written in one line: a message, or a batch of them (2025-03-26).
type Line struct {
	Batch    bool
	Messages []wire.Element
}

// A Reader reads lines. It is for one goroutine.
type Reader struct{ in *bufio.Reader }

// NewReader returns a Reader of the lines in r.
func NewReader(r io.Reader) *Reader { return &Reader{bufio.NewReader(r)} }

// Next returns the next line that has something in it. One that is no message has the error that its writer is to be
// told in the place of the message. The last line needs no end. It fails only with the input: with [io.EOF] at its end.
func (r *Reader) Next() (Line, error) {
	for {
		text, err := r.next()
		if errors.Is(err, errTooLong) {
			return Line{Messages: []wire.Element{{Err: wire.InvalidRequest("Invalid request: " + err.Error())}}}, nil
		}
		if text = bytes.TrimSpace(text); len(text) > 0 {
			return parse(text), nil
		}
		if err != nil {
			return Line{}, err
		}
	}
}

func parse(text []byte) Line {
	one, batch, err := wire.ParseBody(text)
	if batch != nil {
		return Line{Batch: true, Messages: batch}
	}
	return Line{Messages: []wire.Element{{Raw: text, Message: one, Err: err}}}
}

var errTooLong = fmt.Errorf("the line is longer than %d bytes", MaxLine)

// next reads up to the end of a line. It skips the rest of one that is too long.
func (r *Reader) next() ([]byte, error) {
	var line []byte
	tooLong := false
	for {
		piece, err := r.in.ReadSlice('\n')
		if tooLong = tooLong || len(line)+len(piece) > MaxLine; !tooLong {
			line = append(line, piece...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case tooLong:
			return nil, errTooLong
		default:
			return line, err
		}
	}
}

// AppendError appends the line that tells e, in answer to the message with this ID. An ID that could not be read is null
// (JSON-RPC 2.0, 5).
func AppendError(dst []byte, id wire.ID, e *wire.Error) []byte {
	if id == "" {
		id = "null"
	}
	return append(wire.AppendError(dst, id, e), '\n')
}
