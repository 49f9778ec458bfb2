// Package terminal makes what strangers have written fit to be shown on a terminal: without the characters that move its cursor,
// set its title or its clipboard, or make a text look like another one.
package terminal

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// acts tells whether a character does something instead of being shown: the control characters but for line feed and tab, and those
// that change the direction of the text around them (Unicode Standard Annex 9, sections 2.1 to 2.4).
func acts(r rune) bool {
	return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// Text returns s without the characters that act. Bytes that are no UTF-8, which old terminals take for control
// characters, become U+FFFD.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		if acts(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// JSON returns a JSON text that means the same, with the characters that act as escapes.
func JSON(text []byte) []byte {
	safe := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if acts(r) || r == utf8.RuneError && n == 1 {
			safe = fmt.Appendf(safe, `\u%04x`, r)
		} else {
			safe = append(safe, text[:n]...)
		}
		text = text[n:]
	}
	return safe
}

// Writer returns a writer that passes [Text] on to w. A single write must not end inside of a character.
func Writer(w io.Writer) io.Writer { return writer{w} }

type writer struct{ w io.Writer }

// Write implements [io.Writer].
func (w writer) Write(b []byte) (int, error) {
	if _, err := io.WriteString(w.w, Text(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}
