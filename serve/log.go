package serve

import (
	"log/slog"
	"os"
)

// newLogger logs to standard error: over stdio, standard output belongs to the protocol.
func newLogger(c Config) *slog.Logger {
	level, _ := c.logLevel() // checked; and if not, info
	opts := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "text" || c.LogFormat == "auto" && isTerminal(os.Stderr) {
		return slog.New(slog.NewTextHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, opts))
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
