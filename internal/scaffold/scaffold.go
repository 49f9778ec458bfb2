// Package scaffold owns the project that "sluice new" writes: its files, which are the tree below project/ and are
// compiled, linted and tested there like everything else, and what has to change in them on the way out.
//
// It does not run the go command and knows nothing of the command line.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

//go:embed all:project
var files embed.FS

// What stands in the files for the new project's own. Nothing else in them depends on where they are.
const (
	ourModule    = "github.com/sluice-mcp/sluice"
	sdkModule    = "github.com/modelcontextprotocol/go-sdk"
	templateDir  = "internal/scaffold/project/"  // before ./cmd/server, as the module's root sees it
	templatePath = ourModule + "/" + templateDir // before an import path
	templateName = "my-project"                  // in names of services, images and the server
	goVersion    = "1.26"
)

// A Project says what to write.
type Project struct {
	Module  string // path of the new module
	Sluice  string // version of sluice to require
	SDK     string // version of the MCP SDK to require
	Replace string // directory to take sluice from instead; "" for none
}

// CheckModule says what is wrong with a module path.
func CheckModule(p string) error {
	if err := module.CheckPath(p); err != nil {
		if invalid, ok := errors.AsType[*module.InvalidPathError](err); ok {
			err = invalid.Err
		}
		return fmt.Errorf("%q is not a module path such as example.com/acme/weather: %w", p, err)
	}
	if p == ourModule || strings.HasPrefix(p, ourModule+"/") {
		return fmt.Errorf("%q is inside sluice's own module", p)
	}
	return nil
}

var notLabel = regexp.MustCompile(`[^a-z0-9]+`)

// yamlWords are read as something else than a string where they stand unquoted in YAML 1.1.
var yamlWords = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}

// Name derives from a module path the name of what is deployed: a DNS label, with room for the suffixes that
// platforms add.
func Name(modulePath string) string {
	prefix, _, _ := module.SplitPathVersion(modulePath)
	name := notLabel.ReplaceAllString(strings.ToLower(path.Base(prefix)), "-")
	if len(name) > 40 {
		name = name[:40]
	}
	name = strings.Trim(name, "-")
	if name == "" || name[0] < 'a' || slices.Contains(yamlWords, name) {
		name = strings.TrimSuffix("mcp-"+name, "-")
	}
	return name
}

// ErrNotEmpty says that the directory has something in it already.
var ErrNotEmpty = errors.New("directory is not empty")

// Write writes the project into dir, which it makes if it is not there, and returns the names of the files, in order.
// A directory with anything but a .git in it is [ErrNotEmpty], unless force is set: then files of the same names are overwritten,
// and others stay. Nothing is written outside of dir, whatever links there are in it.
func Write(dir string, p Project, force bool) ([]string, error) {
	if err := CheckModule(p.Module); err != nil {
		return nil, err
	}
	out, err := render(p)
	if err != nil {
		return nil, err
	}
	if !force {
		if err := checkEmpty(dir); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // source code, for others to read
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var names []string
	for name := range out {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := root.MkdirAll(filepath.Dir(filepath.FromSlash(name)), 0o755); err != nil {
			return nil, err
		}
		if err := root.WriteFile(filepath.FromSlash(name), out[name], 0o644); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() != ".git" { // a repository that was just made and cloned
			return fmt.Errorf("%w: %s has %s in it", ErrNotEmpty, dir, entry.Name())
		}
	}
	return nil
}

// render returns the project's files by their names.
func render(p Project) (map[string][]byte, error) {
	replacer := strings.NewReplacer(
		templatePath, p.Module+"/",
		"./"+templateDir, "./",
		templateName, Name(p.Module),
	)
	out := map[string][]byte{}
	err := fs.WalkDir(files, "project", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		done := []byte(replacer.Replace(string(text)))
		if bytes.Contains(done, []byte(strings.TrimSuffix(templateDir, "/"))) {
			return fmt.Errorf("%s names the template in a way that cannot be rewritten", name)
		}
		out[strings.TrimPrefix(name, "project/")] = done
		return nil
	})
	if err != nil {
		return nil, err
	}
	if out["go.mod"], err = goMod(p); err != nil {
		return nil, err
	}
	return out, nil
}

func goMod(p Project) ([]byte, error) {
	f := new(modfile.File)
	if err := errors.Join(
		f.AddModuleStmt(p.Module),
		f.AddGoStmt(goVersion),
		f.AddRequire(sdkModule, p.SDK),
		f.AddRequire(ourModule, p.Sluice),
	); err != nil {
		return nil, err
	}
	if p.Replace != "" {
		if err := f.AddReplace(ourModule, "", filepath.ToSlash(p.Replace), ""); err != nil {
			return nil, err
		}
	}
	f.Cleanup()
	return f.Format()
}
