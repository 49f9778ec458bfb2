package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// argumentsHelp stands in the help of the command.
const argumentsHelp = `ARGUMENTS are one of

  '{"a":10}'    a JSON object
  @FILE         the JSON object in a file
  -             the JSON object on standard input
  NAME=VALUE…   one or more arguments: VALUE is JSON where it can be (10, true, [1,2], '"10"'), else text
  NAME=@FILE    … whose value is the text in a file (@- is standard input)
  NAME:=@FILE   … whose value is the JSON in a file`

// readArguments makes the arguments of a call out of those of the command line. Their tokens stay as they were written.
func readArguments(args []string, stdin io.Reader) (json.RawMessage, error) {
	if len(args) == 0 {
		return json.RawMessage("{}"), nil
	}
	name, source := "", args[0]
	switch {
	case args[0] == "-":
		source = "@-"
	case strings.HasPrefix(args[0], "@"), strings.HasPrefix(strings.TrimSpace(args[0]), "{"):
	case strings.Contains(args[0], "="):
		return readPairs(args, stdin)
	}
	if len(args) > 1 {
		return nil, usagef("ARGUMENTS: %s is all of them; one by one they are written NAME=VALUE", abridged(args[0]))
	}
	text := []byte(source)
	if strings.HasPrefix(source, "@") {
		var err error
		if name, text, err = readSource(source[1:], stdin); err != nil {
			return nil, usagef("ARGUMENTS: %w", err)
		}
	}
	if err := checkObject(text); err != nil {
		if name == "" {
			name = abridged(source)
		}
		return nil, usagef("ARGUMENTS: %s is not a JSON object such as {\"a\":10}: %w; write @FILE for one in a file, - for standard input, NAME=VALUE for a single argument", name, err)
	}
	return text, nil
}

func readPairs(args []string, stdin io.Reader) (json.RawMessage, error) {
	object := []byte{'{'}
	seen := make(map[string]bool)
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		name, strict := strings.CutSuffix(name, ":")
		if !ok || name == "" {
			return nil, usagef("ARGUMENTS: %s is not of the form NAME=VALUE", abridged(arg))
		}
		if seen[name] {
			return nil, usagef("ARGUMENTS: %s is there twice", abridged(name))
		}
		seen[name] = true
		raw, err := readValue(value, strict, stdin)
		if err != nil {
			return nil, usagef("ARGUMENTS: %s: %w", abridged(name), err)
		}
		if len(object) > 1 {
			object = append(object, ',')
		}
		object = append(append(append(object, quoteJSON(name)...), ':'), raw...)
	}
	return append(object, '}'), nil
}

// readValue returns the JSON of one argument. Strict means that it has to be JSON already.
func readValue(value string, strict bool, stdin io.Reader) (json.RawMessage, error) {
	path, isFile := strings.CutPrefix(value, "@")
	if !isFile {
		if json.Valid([]byte(value)) {
			return json.RawMessage(value), nil
		}
		if strict {
			return nil, fmt.Errorf("%s is not JSON", abridged(value))
		}
		if !utf8.ValidString(value) {
			return nil, errors.New("this is not UTF-8")
		}
		return quoteJSON(value), nil
	}
	name, text, err := readSource(path, stdin)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w; for a text that begins with @ write '\"@…\"'", err)
	case !utf8.Valid(text):
		return nil, fmt.Errorf("%s is not UTF-8; bytes need base64", name)
	case strict && !json.Valid(text):
		return nil, fmt.Errorf("%s is not JSON; without the colon it is taken as text", name)
	case strict:
		return text, nil
	}
	return quoteJSON(string(text)), nil
}

// readSource reads a file, or for "-" standard input, and returns how a message names it.
func readSource(path string, stdin io.Reader) (name string, text []byte, err error) {
	if path == "-" {
		name = "standard input"
		text, err = io.ReadAll(stdin)
	} else {
		name = "file " + path
		text, err = os.ReadFile(path) //nolint:gosec // whoever types the command may read the file
	}
	return name, bytes.TrimPrefix(text, []byte("\uFEFF")), err
}

func checkObject(text []byte) error {
	if len(bytes.TrimSpace(text)) == 0 {
		return errors.New("it is empty")
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		if bad, ok := errors.AsType[*json.SyntaxError](err); ok {
			return fmt.Errorf("%w (byte %d)", bad, bad.Offset)
		}
		return errors.New("it is another JSON value")
	}
	if object == nil {
		return errors.New("it is null")
	}
	return nil
}

func quoteJSON(s string) []byte {
	quoted, _ := json.Marshal(s) // a string cannot fail to marshal
	return quoted
}

// abridged keeps a message readable, however long an argument is.
func abridged(s string) string {
	s = oneLine(s)
	if runes := []rune(s); len(runes) > 60 {
		s = string(runes[:60]) + "…"
	}
	return s
}
