package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the path before every package of ours.
const module = "github.com/kiteq/kiteq"

// root is the module's directory, from this one.
const root = "../.."

// pack is one package with its files of every platform: a file that this machine does not build has
// to keep the rules, too.
type pack struct {
	path  string // below the module, "." for the root
	name  string
	files []*file
}

// file is one parsed source file.
type file struct {
	path  string // from the module's root
	test  bool
	lines int
	fset  *token.FileSet
	ast   *ast.File
}

// finding is one broken rule.
type finding struct {
	file string
	line int
	text string // what, and what to do
}

func (f finding) String() string { return fmt.Sprintf("%s:%d: %s", f.file, f.line, f.text) }

func (f *file) find(pos token.Pos, format string, args ...any) finding {
	return finding{f.path, f.fset.Position(pos).Line, fmt.Sprintf(format, args...)}
}

// imports returns what the file imports, by path.
func (f *file) imports() map[string]token.Pos {
	all := map[string]token.Pos{}
	for _, spec := range f.ast.Imports {
		if path, err := strconv.Unquote(spec.Path.Value); err == nil {
			all[path] = spec.Pos()
		}
	}
	return all
}

// generated tells whether a program wrote the file: it follows no style.
func (f *file) generated() bool { return ast.IsGenerated(f.ast) }

// parse makes a file of its source.
func parse(path string, source []byte) (*file, error) {
	f := &file{path: path, test: strings.HasSuffix(path, "_test.go"), fset: token.NewFileSet()}
	f.lines = bytes.Count(source, []byte("\n"))
	var err error
	f.ast, err = parser.ParseFile(f.fset, path, source, parser.ParseComments|parser.SkipObjectResolution)
	return f, err
}

// listed is what go list says about a package.
type listed struct {
	ImportPath   string
	Name         string
	Dir          string
	Deps         []string
	TestImports  []string
	XTestImports []string
}

// list asks go list about the module's packages.
func list(t *testing.T) []listed {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Name,Dir,Deps,TestImports,XTestImports", "./...")
	command.Dir = root
	var problems bytes.Buffer
	command.Stderr = &problems
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, problems.String())
	}
	var all []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			if len(all) < 10 {
				t.Fatalf("go list names %d packages: this is not the whole module", len(all))
			}
			return all
		case err != nil:
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
}

// load parses the files of the listed packages.
func load(t *testing.T, all []listed) []pack {
	t.Helper()
	packs := make([]pack, 0, len(all))
	for _, l := range all {
		p := pack{path: below(l.ImportPath), name: l.Name}
		entries, err := os.ReadDir(l.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() || filepath.Ext(e.Name()) != ".go" {
				continue
			}
			source, err := os.ReadFile(filepath.Join(l.Dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			f, err := parse(filepath.ToSlash(filepath.Join(p.path, e.Name())), source)
			if err != nil {
				t.Fatal(err)
			}
			p.files = append(p.files, f)
		}
		packs = append(packs, p)
	}
	return packs
}

// below cuts the module off an import path of ours; others stay as they are.
func below(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// ours tells whether the import path is of this module.
func ours(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }

// standard tells whether the import path is of the standard library: its first element has no dot.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// report fails the test with each finding on a line of its own, in the order of the files.
func report(t *testing.T, findings []finding) {
	t.Helper()
	slices.SortFunc(findings, func(a, b finding) int {
		if a.file != b.file {
			return strings.Compare(a.file, b.file)
		}
		return a.line - b.line
	})
	for _, f := range findings {
		t.Error(f)
	}
}
