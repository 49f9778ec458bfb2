package scaffold

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"golang.org/x/mod/modfile"
)

// unreleased is what a go.mod requires where a replacement takes the place of any version.
const unreleased = "v0.0.0-00010101000000-000000000000"

// ErrNoVersion says that this program does not know which version of sluice to require.
var ErrNoVersion = errors.New("this sluice was built from a checkout, which has no version to require: name the checkout with --replace")

// Source fills in where a new project gets sluice and the SDK from: the versions that this program was built from. If
// it was built from a checkout, which has none, the project is tied to the checkout that replace names or, if that is
// empty, to the one that the directory "from" is in.
func (p *Project) Source(info *debug.BuildInfo, replace, from string) error {
	for _, dep := range info.Deps {
		if dep.Path == sdkModule {
			p.SDK = dep.Version
		}
	}
	if p.SDK == "" {
		return errors.New("this sluice does not know which version of the MCP SDK it was built with")
	}
	if replace != "" {
		dir, err := filepath.Abs(replace)
		if err != nil {
			return err
		}
		if !isCheckout(dir) {
			return fmt.Errorf("--replace: %s is not a checkout of %s", replace, ourModule)
		}
		p.Sluice, p.Replace = unreleased, dir
		return nil
	}
	// Only what came out of the module cache has a sum. A checkout may be stamped with a
	// version, too, but nobody knows whether that has been published.
	if info.Main.Path == ourModule && info.Main.Sum != "" {
		p.Sluice = info.Main.Version
		return nil
	}
	for dir := from; ; dir = filepath.Dir(dir) {
		if isCheckout(dir) {
			p.Sluice, p.Replace = unreleased, dir
			return nil
		}
		if dir == filepath.Dir(dir) {
			return ErrNoVersion
		}
	}
}

func isCheckout(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod")) //nolint:gosec // the user names it, and nothing of it is shown
	return err == nil && modfile.ModulePath(text) == ourModule
}
