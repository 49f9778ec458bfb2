package cli

import (
	"errors"
	"strings"

	"github.com/sluice-mcp/sluice/internal/scaffold"
)

// hint adds to an error what can be done about it.
func hint(err error) string {
	if errors.Is(err, scaffold.ErrNotEmpty) {
		return "; --dir names another directory, --force writes into this one"
	}
	return ""
}

// quoted makes a directory fit to be pasted into a shell.
func quoted(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:\\~"
	if strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
