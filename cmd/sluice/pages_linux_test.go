package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// TestPages types what the pages tell a person to type, each block into a terminal of its own, which is killed at the block's end. What
// they show must come, but for times, numbers and IDs. Only the work is shorter.
func TestPages(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes as long as a person would")
	}
	store := os.Getenv("SLUICE_TEST_REDIS_URL")
	if store == "" {
		store = "redis://" + miniredis.RunT(t).Addr()
	}
	const server = "$ go run ./cmd/mcp-server-demo\n" // for a page that takes it for granted
	for page, blocks := range map[string][]string{
		"README.md":     append([]string{server}, consoles(t, "README.md")...),
		"docs/tasks.md": consoles(t, "docs/tasks.md"),
	} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			typist := &typist{ports: map[string]string{}}
			edit := strings.NewReplacer("delay_ms=1000", "delay_ms=20",
				"redis://127.0.0.1:6379", store, "~", t.TempDir(),
				"8000", typist.port(t, "8000"), "8001", typist.port(t, "8001"), "8002", typist.port(t, "8002"))
			for _, block := range blocks {
				typist.sit(t, edit.Replace(block))
			}
		})
	}
}

// consoles returns the blocks of a page that show a terminal.
func consoles(t *testing.T, page string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", page))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^```console\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) == 0 {
		t.Fatalf("%s has no block of the kind console", page)
	}
	return blocks
}

// A typist sits down at one terminal after the other.
type typist struct {
	ports map[string]string // by what the page calls them
}

// port is the free one that stands for a port of the page. Until its server is built somebody else might take it: it is none of those that
// the kernel gives away, nor of those of the kit.
func (p *typist) port(t *testing.T, named string) string {
	t.Helper()
	for {
		port := strconv.Itoa(10_000 + rand.IntN(10_000))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			p.ports[named] = port
			_ = l.Close()
			return port
		}
	}
}

var (
	portFlag = regexp.MustCompile(`--port (\d+)`)
	prompt   = regexp.MustCompile(`<<(\d+)>>`)
	// typed is a line of output behind which a person has typed something.
	typed = regexp.MustCompile(`^(.*\(default .*\): )(\w+)$`)
)

// sit types a block into a new terminal.
func (p *typist) sit(t *testing.T, block string) {
	t.Helper()
	term := openTerminal(t, p.ports["8000"])
	lines := bufio.NewScanner(strings.NewReader(block))
	var command string
	var shown []string
	serves := false
	for more := true; more; {
		more = lines.Scan()
		next, isCommand := strings.CutPrefix(lines.Text(), "$ ")
		if more && !isCommand {
			shown = append(shown, lines.Text())
			continue
		}
		if command != "" {
			serves = p.enter(t, term, command, shown)
		}
		command, shown = next, nil
	}
	if serves {
		t.Cleanup(term.close)
	} else {
		term.close()
	}
}

// enter types a command, and reports whether it is a server in the foreground.
func (p *typist) enter(t *testing.T, term *terminal, command string, shown []string) (serves bool) {
	t.Helper()
	before := term.mark()
	term.write(t, command+"\n")
	isServer := strings.Contains(command, "mcp-server-demo")
	serves = isServer && !strings.HasSuffix(command, "&")
	for _, line := range shown {
		if m := typed.FindStringSubmatch(line); m != nil {
			term.await(t, before, regexp.MustCompile(regexp.QuoteMeta(m[1])))
			term.write(t, m[2]+"\n")
		}
	}
	if isServer {
		port := p.ports["8000"]
		if m := portFlag.FindStringSubmatch(command); m != nil {
			port = m[1]
		}
		awaitServer(t, term, port)
	}
	if serves || command == "exit" {
		return serves
	}
	if code := term.await(t, before, prompt)[1]; code != "0" {
		t.Errorf("%s ended with %s:\n%s", command, code, term.since(before))
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		line, missing := missing(term.since(before), shown)
		if !missing {
			return false
		}
		if !strings.Contains(command, "task get") || time.Now().After(deadline) {
			t.Errorf("%s: the page shows %q, which did not come:\n%s", command, line, term.since(before))
			return false
		}
		before = term.mark() // a task that has just begun has said nothing yet: a person looks again
		term.write(t, command+"\n")
		term.await(t, before, prompt)
	}
}

// missing returns the first line that a page shows and that is not on the screen, in its order.
func missing(screen string, shown []string) (line string, missing bool) {
	got := strings.Split(alike(screen), "\n")
	for _, line := range shown {
		if line == "…" {
			continue
		}
		for want := alike(line); len(got) > 0 && got[0] != want; {
			got = got[1:]
		}
		if len(got) == 0 {
			return line, true
		}
	}
	return "", false
}

var (
	taskID = regexp.MustCompile(`\b[A-Z2-7]{26}\b`)
	number = regexp.MustCompile(`\d+`)
)

// alike leaves of a text what is the same each time.
func alike(s string) string {
	return number.ReplaceAllString(taskID.ReplaceAllString(strings.ReplaceAll(s, "\r", ""), "ID"), "N")
}

func awaitServer(t *testing.T, term *terminal, port string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get("http://127.0.0.1:" + port + "/readyz")
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no server on port %s: %v\n%s", port, err, term.since(0))
		}
	}
}

// patience is for a busy machine that builds programs.
const patience = 2 * time.Minute

// A terminal is a shell on a pseudo-terminal.
type terminal struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu     sync.Mutex
	screen bytes.Buffer
}

// openTerminal opens a terminal in the checkout. script(1) is what makes it one: it holds the other side.
func openTerminal(t *testing.T, port string) *terminal {
	t.Helper()
	term := &terminal{cmd: exec.Command("script", "--quiet", "--echo", "always", "--command", "bash --norc --noprofile --noediting -i", "/dev/null")}
	term.cmd.Dir = "../.."
	term.cmd.Env = append(os.Environ(), `PROMPT_COMMAND=echo "<<$?>>"; PS1=`, "TERM=dumb", "MCP_SERVER_PORT="+port)
	var err error
	if term.in, err = term.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	term.cmd.Stdout, term.cmd.Stderr = term, term
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(term.close)
	term.await(t, 0, prompt)
	return term
}

// Write implements [io.Writer].
func (term *terminal) Write(p []byte) (int, error) {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.screen.Write(p)
}

func (term *terminal) write(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(term.in, text); err != nil {
		t.Fatal(err)
	}
}

// mark is a place on the screen, for what comes behind it.
func (term *terminal) mark() int {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.screen.Len()
}

func (term *terminal) since(mark int) string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return string(term.screen.Bytes()[mark:])
}

// await waits for something to come onto the screen.
func (term *terminal) await(t *testing.T, mark int, what *regexp.Regexp) []string {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if found := what.FindStringSubmatch(term.since(mark)); found != nil {
			return found
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %q:\n%s", patience, fmt.Sprint(what), term.since(0))
		}
	}
}

// close kills the terminal: what runs in it gets SIGHUP, as when a window is closed.
func (term *terminal) close() {
	_ = term.cmd.Process.Kill() // it may have ended
	_ = term.cmd.Wait()
}
