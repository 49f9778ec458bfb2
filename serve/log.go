package serve

import (
	"log/slog"
	"os"

	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/observe/accesslog"
)

// newLogger logs to standard error: over stdio, standard output belongs to the protocol.
func newLogger(c Config) *slog.Logger {
	level, _ := c.logLevel() // checked; and if not, info
	opts := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "text" || c.LogFormat == "auto" && isTerminal(os.Stderr) {
		return slog.New(accesslog.Handler(slog.NewTextHandler(os.Stderr, opts)))
	}
	return slog.New(accesslog.Handler(slog.NewJSONHandler(os.Stderr, opts)))
}

// observer returns who is told what the endpoint does.
func (c Config) observer(log *slog.Logger) observe.Observer {
	return observe.Join(c.Telemetry, c.Observer, accesslog.New(log, &accesslog.Options{Principals: c.AccessLog == "names", Quiet: c.AccessLog == "off"}))
}

// untouched is the default logger of a program that has not set one.
var untouched = slog.Default()

// setDefault has what tools log name the call that it was logged in: with the process's own logger, or with the program's if it has one.
func setDefault(log *slog.Logger) {
	if theirs := slog.Default(); theirs != untouched {
		log = slog.New(accesslog.Handler(theirs.Handler()))
	}
	slog.SetDefault(log)
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
