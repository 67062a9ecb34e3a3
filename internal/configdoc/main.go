// Command configdoc writes the tables of doc/config.md from the structs that the configuration is read into: each
// key with its default and the comment of its field. It runs in the module's directory: go run ./internal/configdoc.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kiteq/kiteq/conf"
)

const page = "doc/config.md"

func main() {
	if err := write("."); err != nil {
		fmt.Fprintln(os.Stderr, "configdoc:", err)
		os.Exit(1)
	}
}

// write brings the page below root up to date.
func write(root string) error {
	path := filepath.Join(root, page)
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := fill(root, string(old))
	if err != nil || text == string(old) {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// place is where a table stands: between two comments, the first of which names the section.
var place = regexp.MustCompile(`(?s)(<!-- keys ?(\w*) -->\n).*?(<!-- end -->)`)

// fill puts every table into its place. A section without a place is an error.
func fill(root, text string) (string, error) {
	tables, err := tables(root)
	if err != nil {
		return "", err
	}
	text = place.ReplaceAllStringFunc(text, func(found string) string {
		m := place.FindStringSubmatch(found)
		table := tables[m[2]]
		delete(tables, m[2])
		return m[1] + table + m[3]
	})
	for section := range tables {
		return "", fmt.Errorf("%s: no place for the keys of section %q: add <!-- keys %s --> and <!-- end -->", page, section, section)
	}
	return text, nil
}

// tables returns the table of each section.
func tables(root string) (map[string]string, error) {
	all, docs, c := map[string]string{}, map[string]comments{}, conf.Default()
	for _, k := range conf.Keys() {
		dir := strings.TrimPrefix(k.Struct.PkgPath(), "github.com/kiteq/kiteq/")
		if docs[dir] == nil {
			var err error
			if docs[dir], err = read(filepath.Join(root, dir)); err != nil {
				return nil, err
			}
		}
		meaning := docs[dir].of(k.Struct.Name(), k.Field)
		if meaning == "" {
			return nil, fmt.Errorf("%s: field %s.%s has no comment", dir, k.Struct.Name(), k.Field)
		}
		if all[k.Section] == "" {
			all[k.Section] = "| key | default | changes | meaning |\n|---|---|---|---|\n"
			if k.Section == "" {
				all[k.Section] = "| flag | key | default | changes | meaning |\n|---|---|---|---|---|\n"
			}
		}
		if k.Section == "" {
			all[k.Section] += "| " + code("-", conf.Flag(k)) + " "
		}
		change := "restart"
		if k.Live {
			change = "live"
		}
		k.Secret = false // of a default
		value := k.Value(&c)
		if k.Name == "shards" { // what the machine has
			value = ""
		}
		all[k.Section] += fmt.Sprintf("| `%s` | %s | %s | %s |\n", k.Name, code("", value), change, meaning)
	}
	return all, nil
}

func code(before, text string) string {
	if text == "" {
		return ""
	}
	return "`" + before + text + "`"
}

// comments are those of the fields of one package's structs, by struct and field.
type comments map[string]map[string]string

func read(dir string) (comments, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	all := comments{}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				all[spec.Name.Name] = fields(s)
			}
			return false
		})
	}
	return all, nil
}

func fields(s *ast.StructType) map[string]string {
	all := map[string]string{}
	for _, f := range s.Fields.List {
		for _, name := range f.Names {
			all[name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
		}
	}
	return all
}

// of returns the comment of a field as a cell: keys in place of the names of fields, and without "X is" at its
// beginning.
func (c comments) of(structure, field string) string {
	text := strings.ReplaceAll(c[structure][field], "|", `\|`)
	for _, verb := range []string{" is ", " are ", " "} {
		if rest, ok := strings.CutPrefix(text, field+verb); ok {
			text = rest
			break
		}
	}
	for _, k := range conf.Keys() {
		if k.Struct.Name() == structure && c[structure][k.Field] != "" && len(k.Field) > 4 {
			text = regexp.MustCompile(`\b`+k.Field+`\b`).ReplaceAllString(text, "`"+k.Name+"`")
		}
	}
	return text
}
