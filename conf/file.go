package conf

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// document is what a configuration file may hold: our keys, and beside them the tables of the original KiteQ.
type document struct {
	*Config
	Registries map[string]map[string]any `toml:"registry"`
	Clusters   map[string]map[string]any `toml:"clusters"`
}

// readFile decodes the file over the defaults. cluster is what the flag says, or "". A file that cannot be
// read or has no syntax is an error; problems are everything else that is wrong with it. A key that means
// nothing is refused by its name.
func (c *Config) readFile(path, cluster string) (problems []error, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w: name one that can be read with -configPath", err)
	}
	f := document{Config: c}
	meta, err := toml.Decode(string(text), &f)
	if err != nil {
		var syntax toml.ParseError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("configuration %s: line %d: %s", path, syntax.Position.Line, syntax.Message)
		}
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("configuration %s: "+format, append([]any{path}, args...)...))
	}
	for _, key := range tableKeys(reflect.TypeFor[document](), nil) {
		// The decoder passes over what is none in silence. "" is a key that is not there, or one that is only above others.
		if kind := meta.Type(key...); kind != "" && kind != "Hash" {
			bad("%s: write a table", strings.Join(key, "."))
		}
	}
	for _, key := range meta.Undecoded() {
		bad("key %q is not known: remove it or see conf/kiteq.toml for the name", key.String())
	}
	if meta.IsDefined("registry") || meta.IsDefined("clusters") {
		if cluster == "" {
			cluster = c.ClusterName
		}
		o := original{document: f, cluster: cluster, ours: meta.IsDefined, bad: bad}
		o.adopt()
	}
	return problems, nil
}

// tableKeys returns the keys of the struct, and of those in it, whose values are tables of any names.
func tableKeys(t reflect.Type, above []string) (keys [][]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		key, typ := slices.Clone(above), f.Type
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if !f.Anonymous {
			key = append(key, f.Tag.Get("toml"))
		}
		switch typ.Kind() {
		case reflect.Map:
			keys = append(keys, key)
		case reflect.Struct:
			keys = append(keys, tableKeys(typ, key)...)
		}
	}
	return keys
}
