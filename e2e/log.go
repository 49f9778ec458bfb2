package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"os"
)

// logTailBytes is how much of a server's output is shown when a test fails.
const logTailBytes = 32 << 10

// Log returns what the server has written so far, of all its runs.
func (s *Server) Log() string {
	if s.logFile == nil {
		return ""
	}
	b, err := os.ReadFile(s.logFile.Name())
	if err != nil {
		return fmt.Sprintf("e2e: no log: %v", err)
	}
	return string(b)
}

// logTail is the end of the log, with a line that says where all of it is.
func (s *Server) logTail() string {
	b := []byte(s.Log())
	where := "run the test with -artifacts to keep all of it"
	if f := flag.Lookup("test.artifacts"); f != nil && f.Value.String() == "true" {
		where = "all of it: " + s.logFile.Name()
	}
	if len(b) <= logTailBytes {
		return fmt.Sprintf("%s(%s)", b, where)
	}
	cut := len(b) - logTailBytes
	if i := bytes.IndexByte(b[cut:], '\n'); i >= 0 {
		cut += i + 1
	}
	return fmt.Sprintf("… %d bytes before (%s)\n%s", cut, where, b[cut:])
}
