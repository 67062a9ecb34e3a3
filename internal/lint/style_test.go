package lint

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// The longest files, lines. Generated ones may have any length.
const (
	maxLines     = 600
	maxTestLines = 900
)

// vague are package names that say nothing about what is inside.
var vague = []string{"util", "utils", "common", "helper", "helpers", "type", "types", "manager", "managers", "misc", "base", "shared"}

// sleepers are the packages that may sleep: a load generator keeps time.
var sleepers = []string{"cmd/kiteq-bench"}

// checkPackage applies the rules about a package as a whole.
func checkPackage(p pack) []finding {
	var found []finding
	var documented bool
	for _, f := range p.files {
		doc := f.ast.Doc.Text()
		if f.test || doc == "" {
			continue
		}
		documented = true
		if start := docStart(p, f); !strings.HasPrefix(doc, start) {
			found = append(found, f.find(f.ast.Package, "the package comment does not begin with %q: write there what the package's one job is", start))
		}
	}
	first := p.files[0]
	generated := !slices.ContainsFunc(p.files, func(f *file) bool { return !f.generated() })
	if !documented && !generated {
		found = append(found, finding{first.path, 1, "package " + p.name + " has no package comment: add a doc.go whose first sentence is its one job"})
	}
	last := p.path[strings.LastIndex(p.path, "/")+1:]
	for _, name := range slices.Compact([]string{last, p.name}) {
		if slices.Contains(vague, name) {
			found = append(found, finding{first.path, 1, "package name " + name + " says nothing: name it after what it provides"})
		}
	}
	return found
}

// docStart is what the package comment begins with.
func docStart(p pack, f *file) string {
	if p.name == "main" {
		return "Command "
	}
	return "Package " + f.ast.Name.Name + " "
}

// checkFile applies the rules about single files.
func checkFile(p pack, f *file) []finding {
	if f.generated() {
		return nil
	}
	var found []finding
	limit := maxLines
	if f.test {
		limit = maxTestLines
	}
	if f.lines > limit {
		found = append(found, finding{f.path, limit + 1, "the file is longer than allowed: split it by what its parts are about"})
	}
	for _, decl := range f.ast.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Name.Name == "init" && fn.Recv == nil {
			found = append(found, f.find(fn.Pos(), "init function: do it in New or main, where it can be seen and can fail"))
		}
	}
	return append(found, checkCalls(p, f)...)
}

// checkCalls reports calls that do not belong where they are.
func checkCalls(p pack, f *file) []finding {
	names := importNames(f)
	logged := map[ast.Expr]bool{}
	var virtual ast.Node // the synctest.Test that we are in: sleeping there costs no time
	var found []finding
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			s, ok := n.Fun.(*ast.SelectorExpr)
			if !ok {
				break
			}
			if isLog(s.Sel.Name) && len(n.Args) > 0 {
				logged[n.Args[0]] = true // a context for values only: it ends nothing
			}
			switch selected(names, s) {
			case "testing/synctest.Test":
				virtual = n
			case "context.Background":
				if !logged[n] && !f.test && p.name != "main" {
					found = append(found, f.find(n.Pos(), "context.Background below main: take ctx from the caller, or context.WithoutCancel(ctx) with a deadline"))
				}
			}
		case *ast.SelectorExpr:
			switch name := selected(names, n); {
			case name == "time.Sleep" && !slices.Contains(sleepers, p.path) && !inside(virtual, n):
				found = append(found, f.find(n.Pos(), "time.Sleep: wait for what you wait for: a channel, a condition, a timer beside ctx.Done()"))
			case strings.HasPrefix(name, "fmt.Print") && !f.test && p.name != "main" && !within(p.path, "cmd"):
				found = append(found, f.find(n.Pos(), "%s: a library does not own standard output: log with the given *slog.Logger", name))
			}
		}
		return true
	})
	return found
}

// inside tells whether n lies in outer.
func inside(outer, n ast.Node) bool {
	return outer != nil && outer.Pos() <= n.Pos() && n.End() <= outer.End()
}

// isLog tells whether the method is one of slog that takes a context before anything else.
func isLog(method string) bool {
	return slices.Contains([]string{"Log", "LogAttrs", "Enabled", "Handle"}, method)
}

// selected returns "package.Name" when the expression selects from an import, by the import's path.
func selected(names map[string]string, s *ast.SelectorExpr) string {
	x, ok := s.X.(*ast.Ident)
	if !ok || names[x.Name] == "" {
		return ""
	}
	return names[x.Name] + "." + s.Sel.Name
}

// importNames gives the paths of the file's imports by their names in it.
func importNames(f *file) map[string]string {
	names := map[string]string{}
	for _, spec := range f.ast.Imports {
		path := strings.Trim(spec.Path.Value, "`\"")
		name := path[strings.LastIndex(path, "/")+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = path
	}
	return names
}

func TestStyle(t *testing.T) {
	t.Parallel()
	for _, p := range load(t, list(t)) {
		report(t, checkPackage(p))
		for _, f := range p.files {
			report(t, checkFile(p, f))
		}
	}
}
