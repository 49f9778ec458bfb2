package sluice_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sluice-mcp/sluice"

// A room is a package, or a tree of them, with what it must never import. ARCHITECTURE.md says why the rooms are cut so.
//
// Names are import paths, those of this module written relative to it ("." is the root package); one that ends in
// "/..." stands for the path and all below it, and one behind "!" is excepted.
type room struct {
	name string
	// never is held by the room and, since a detour changes nothing, by every package of ours that it reaches.
	never []string
	// neverItself is held by the room's own files only: what it reaches may well import these.
	neverItself []string
	// neverAtAll is held by everything that gets linked, other people's packages included.
	neverAtAll []string
}

const (
	sdk    = "github.com/modelcontextprotocol/go-sdk/..."
	server = "github.com/modelcontextprotocol/go-sdk/mcp"
	httpd  = "net/http/..."
)

var (
	// The memory store is no backend in this sense: it is what a nil Options.Store means.
	backends = []string{"store/redis/...", "github.com/redis/...", "github.com/valkey-io/..."}
	// OpenTelemetry does nothing by its API alone, which telemetry uses. What does something is for programs that import
	// telemetry/export, a module of its own: exporters drag gRPC and protobuf in. Who takes the handler alone, or serve, carries none of it.
	exporters     = []string{"go.opentelemetry.io/otel/sdk/...", "go.opentelemetry.io/otel/exporters/...", "github.com/prometheus/...", "google.golang.org/..."}
	openTelemetry = append(exporters, "go.opentelemetry.io/...")
	// The outer rooms, which none of the inner ones may know.
	outer = []string{"serve/...", "e2e/...", "cmd/...", "conformance/...", "clients/...", "deploy/..."}
)

// rooms holds a row for every package; the longest name that fits a package is its row.
var rooms = []room{
	{name: ".", never: slices.Concat(backends, outer, []string{"store/storetest"}), neverAtAll: openTelemetry},
	{name: "internal/sse", never: []string{"./...", sdk}, neverAtAll: []string{"net", httpd}},
	{name: "internal/wire", neverItself: []string{"./..."}, never: []string{server}, neverAtAll: []string{"net", httpd}},
	{name: "internal/engine", never: slices.Concat(backends, outer, []string{".", "store/...", "auth", httpd})},
	{name: "internal/run", never: slices.Concat(backends, outer, []string{".", "auth", sdk, httpd})},
	{name: "internal/replica", never: slices.Concat(backends, outer, []string{".", "auth", sdk, httpd})},
	{name: "internal/answer", never: slices.Concat(outer, []string{".", "store/...", "auth", server})},
	{name: "internal/caller", never: []string{"./..."}},
	{name: "internal/gate", never: slices.Concat(outer, []string{".", "internal/run", "store/...", "auth", server})},
	{name: "internal/era", never: slices.Concat(outer, []string{".", "internal/run", "store/...", "auth", server})},
	{name: "internal/view", never: slices.Concat(backends, outer, []string{".", "internal/engine", "auth", server})},
	{name: "internal/inflight", never: slices.Concat(backends, outer, []string{".", "internal/engine", "auth", server})},
	{name: "internal/servers", never: slices.Concat(backends, outer, []string{".", "internal/run", "store/...", "auth", httpd})},
	{name: "internal/changes", never: slices.Concat(backends, outer, []string{".", "internal/run", "auth", httpd})},
	{name: "internal/session", never: slices.Concat(backends, outer, []string{".", "auth", httpd})},
	{name: "internal/large", never: slices.Concat(backends, outer, []string{".", "internal/run", "auth", sdk, httpd})},
	{name: "internal/once", never: slices.Concat(backends, outer, []string{".", "internal/session", "auth"})},
	{name: "internal/task", never: slices.Concat(backends, outer, []string{".", "internal/engine", "internal/run", "auth", sdk, httpd})},
	// The stateless era has no sessions, and its calls touch no store: what tasks need of one is theirs.
	{name: "internal/stateless", never: slices.Concat(backends, outer, []string{".", "internal/session", "internal/stateful", "auth"}), neverItself: []string{"store/memory"}},
	{name: "internal/stateful", never: slices.Concat(backends, outer, []string{".", "internal/stateless", "auth"})},
	// Small helpers of the rooms above, and so known to them but knowing none.
	{name: "internal/schematest", never: []string{"./...", sdk}},
	{name: "internal/sitetest", never: slices.Concat(backends, outer)},
	{name: "internal/redistest", never: []string{"./...", sdk, httpd}},
	{name: "internal/...", never: slices.Concat(backends, outer, []string{".", "internal/engine", "internal/run", "internal/session", "store/...", "auth"})},
	// The project that "sluice new" makes: as it is in the user's hands, it sees only what is public.
	{name: "internal/scaffold/project/...", neverItself: []string{"internal/engine", "internal/run", "internal/session", "internal/wire", "internal/demo", "store/..."}},
	{name: "internal/scaffold", neverItself: []string{"internal/engine", "internal/run", "internal/session", "store/..."}},
	{name: "internal/cli/...", neverItself: []string{"internal/engine", "internal/run", "internal/session", "store/...", "serve"}},
	{name: "internal/demo/...", neverItself: []string{"internal/...", "store/...", "serve/..."}},
	// What a new project starts from: a user of ours that happens to live here, and may know what users may.
	{name: "internal/scaffold/project/...", neverItself: slices.Concat(backends, []string{"internal/demo/...", "internal/engine", "internal/run", "internal/session", "internal/wire"})},
	{name: "internal/observed", never: slices.Concat(backends, outer, []string{".", "internal/engine", "internal/run", "internal/session", "auth", sdk, httpd})},
	{name: "internal/measured", never: slices.Concat(backends, outer, []string{".", "internal/...", "auth", sdk, httpd})},
	// What users implement, and what nobody pays for who does not observe: the standard library only.
	{name: "observe", never: []string{"./...", sdk}},
	{name: "observe/accesslog", never: []string{"./...", "!observe", sdk}},
	{name: "telemetry", never: []string{"./...", "!observe", sdk}, neverAtAll: exporters},
	{name: "store", never: []string{"./...", sdk}},
	{name: "store/memory", never: []string{"store/redis/...", "store/storetest", sdk}},
	{name: "store/redis", never: []string{"store/memory/...", "store/storetest", sdk}},
	{name: "store/storetest", never: []string{"store/memory/...", "store/redis/...", sdk}},
	{name: "store/internal/...", never: []string{"store/memory/...", "store/redis/...", "store/storetest", sdk}},
	{name: "auth/...", never: slices.Concat(outer, []string{".", "store/...", "internal/session"})},
	{name: "serve/...", neverItself: []string{"internal/...", "!internal/stdio"}, neverAtAll: openTelemetry},
	// How a client reads an event stream is no part of what the kit tests, which are servers.
	{name: "e2e/...", never: []string{".", "internal/...", "!internal/sse", "store/...", "auth/...", "serve/...", "cmd/...", "conformance/..."}},
	{name: "tasks", never: slices.Concat(outer, []string{".", "internal/...", "store/...", "auth/..."})},
	{name: "cmd/...", neverItself: []string{"internal/engine", "internal/run", "internal/session", "internal/wire", "store/..."}},
	{name: "chaos/..."},
	{name: "conformance/..."},
	{name: "clients/..."},
	{name: "deploy/..."},
	{name: "examples/..."},
	{name: "spec/..."},
}

// forTests are what only tests may import, and each other.
var forTests = []string{"internal/schematest", "internal/sitetest", "internal/redistest"}

// TestImports holds every package to its row, and every package of ours to having one.
func TestImports(t *testing.T) {
	t.Parallel()
	packages := listPackages(t)
	for path, p := range packages {
		if !p.ours() {
			continue
		}
		r := roomOf(path)
		if r == nil {
			t.Errorf("%s has no row in rooms: decide what it must never import", relative(path))
			continue
		}
		for _, dep := range p.Imports {
			if matches(r.neverItself, dep) {
				t.Errorf("%s imports %s", relative(path), relative(dep))
			}
			if matches(forTests, dep) && !matches(forTests, path) {
				t.Errorf("%s imports %s, which is for tests", relative(path), relative(dep))
			}
		}
		ours := func(path string) bool { return packages[path].ours() }
		checkReach(t, packages, path, r.never, ours)
		checkReach(t, packages, path, r.neverAtAll, func(string) bool { return true })
	}
}

// TestPicture holds the rooms of the endpoint to the picture in ARCHITECTURE.md: a room may import those in the rows below its
// own, and none beside it or above. A room without a place in the picture fails, too.
func TestPicture(t *testing.T) {
	t.Parallel()
	row := make(map[string]int)
	for i, names := range picture(t) {
		for _, name := range names {
			row[full(name)] = i
		}
	}
	packages := listPackages(t)
	reached := []string{module}
	for i := 0; i < len(reached); i++ {
		from := reached[i]
		for _, dep := range packages[from].Imports {
			below, drawn := row[dep]
			switch {
			case !packages[dep].ours():
				continue
			case !drawn:
				t.Errorf("%s, which the endpoint needs, is not in the picture", relative(dep))
			case below <= row[from]:
				t.Errorf("%s imports %s, against the picture", relative(from), relative(dep))
			}
			if !slices.Contains(reached, dep) {
				reached = append(reached, dep)
			}
		}
	}
	for path := range row {
		if !slices.Contains(reached, path) {
			t.Errorf("%s is in the picture, and nothing of the endpoint needs it", relative(path))
		}
	}
}

// picture returns the rows of the block in ARCHITECTURE.md that is marked as rooms, from top to bottom.
func picture(t *testing.T) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(text), "```rooms\n")
	block, _, ended := strings.Cut(block, "```")
	if !found || !ended {
		t.Fatal("ARCHITECTURE.md has no block of rooms")
	}
	for line := range strings.Lines(block) {
		_, names, found := strings.Cut(line, "|")
		if !found {
			t.Fatalf("%q is no row of rooms", line)
		}
		rows = append(rows, strings.Fields(names))
	}
	return rows
}

// full is the import path of a name in the picture.
func full(name string) string {
	if name == "sluice" {
		return module
	}
	return module + "/" + name
}

// checkReach walks the imports of path, through the packages that follow admits, and reports each forbidden one with the way to it.
func checkReach(t *testing.T, packages map[string]goPackage, path string, never []string, follow func(string) bool) {
	t.Helper()
	if len(never) == 0 {
		return
	}
	seen := map[string]bool{path: true}
	ways := [][]string{{path}}
	for len(ways) > 0 {
		way := ways[0]
		ways = ways[1:]
		for _, dep := range packages[way[len(way)-1]].Imports {
			if seen[dep] {
				continue
			}
			seen[dep] = true
			longer := append(slices.Clone(way), dep)
			if matches(never, dep) {
				t.Errorf("%s reaches what it must not: %s", relative(path), relative(strings.Join(longer, " → ")))
			} else if follow(dep) {
				ways = append(ways, longer)
			}
		}
	}
}

// TestRooms keeps the rules themselves honest: a name that can match nothing would forbid nothing.
func TestRooms(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, path string
		want          bool
	}{
		{".", module, true},
		{".", module + "/serve", false},
		{"./...", module + "/serve", true},
		{"serve/...", module + "/serve", true},
		{"serve/...", module + "/server", false},
		{"internal/run", module + "/internal/run", true},
		{"net", "net", true},
		{"net", "net/http", false},
		{httpd, "net/http/httptest", true},
		{"./...", "net/http", false},
		{"!internal/run", module + "/internal/run", false},
	} {
		if got := matches([]string{tt.pattern}, tt.path); got != tt.want {
			t.Errorf("%q matches %q: %v, want %v", tt.pattern, tt.path, got, tt.want)
		}
	}
	if r := roomOf(module + "/store/memory"); r == nil || r.name != "store/memory" {
		t.Errorf("room of store/memory: %+v", r)
	}
	if r := roomOf(module + "/nowhere"); r != nil {
		t.Errorf("a package without a row got %+v", r)
	}
}

type goPackage struct {
	ImportPath, Dir  string
	GoFiles, Imports []string
	Module           *struct{ Main bool }
}

func (p goPackage) ours() bool { return p.Module != nil && p.Module.Main }

// listPackages returns the module's packages and all that they need, test files aside.
func listPackages(t *testing.T) map[string]goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,Dir,GoFiles,Imports,Module", "./...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	packages := map[string]goPackage{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list printed what cannot be read: %v", err)
		}
		packages[p.ImportPath] = p
		if p.ours() {
			touch(t, p)
		}
	}
	if !packages[module].ours() {
		t.Fatalf("go list does not know %s", module)
	}
	return packages
}

// touch looks at a package's files and directories. The go command caches a test's success until a file that the test
// looked at changes, and would not know what the go list inside this one reads.
func touch(t *testing.T, p goPackage) {
	t.Helper()
	names := []string{p.Dir, filepath.Dir(p.Dir)}
	for _, file := range p.GoFiles {
		names = append(names, filepath.Join(p.Dir, file))
	}
	for _, name := range names {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
}

func roomOf(path string) *room {
	var best *room
	for i, r := range rooms {
		if matches([]string{r.name}, path) && (best == nil || len(r.name) > len(best.name)) {
			best = &rooms[i]
		}
	}
	return best
}

// matches reports whether one of the patterns, written as in [room], stands for the import path.
func matches(patterns []string, path string) bool {
	if slices.Contains(patterns, "!"+relative(path)) {
		return false
	}
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		pattern, tree := strings.CutSuffix(pattern, "/...")
		if pattern == "." {
			pattern = module
		} else if !external(pattern) {
			pattern = module + "/" + pattern
		}
		return path == pattern || tree && strings.HasPrefix(path, pattern+"/")
	})
}

// external tells other people's import paths and the standard library's from those of this module's packages.
func external(pattern string) bool {
	first, _, _ := strings.Cut(pattern, "/")
	return strings.Contains(first, ".") || first == "net"
}

func relative(s string) string {
	return strings.ReplaceAll(s, module+"/", "")
}
