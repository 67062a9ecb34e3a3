package conf

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Key is one setting of the file. What can be changed while the broker runs has the tag reload:"live", what may
// hold a password secret:"yes": its value is never shown.
type Key struct {
	// Section is the table that it is in, "" for none; Name is its own.
	Section, Name string
	Live, Secret  bool
	// Struct and Field say where it is declared.
	Struct reflect.Type
	Field  string

	index []int // from Config
}

// String is the key with its table, as in "delivery.ack_timeout".
func (k *Key) String() string {
	if k.Section == "" {
		return k.Name
	}
	return k.Section + "." + k.Name
}

// Keys returns every key in the order of the structs.
func Keys() []Key { return keysOf(reflect.TypeFor[Config](), "", nil) }

func keysOf(t reflect.Type, section string, above []int) (keys []Key) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, index := f.Tag.Get("toml"), append(slices.Clone(above), i)
		switch {
		case name == "-":
		case f.Type.Kind() == reflect.Struct:
			keys = append(keys, keysOf(f.Type, name, index)...)
		default:
			keys = append(keys, Key{
				Section: section, Name: name, Live: f.Tag.Get("reload") == "live", Secret: f.Tag.Get("secret") == "yes",
				Struct: t, Field: f.Name, index: index,
			})
		}
	}
	return keys
}

// Value returns what c has for the key, as the file would say it.
func (k *Key) Value(c *Config) string {
	v := k.of(c)
	if k.Secret && !v.IsZero() {
		return "***"
	}
	return written(v)
}

func (k *Key) of(c *Config) reflect.Value { return reflect.ValueOf(c).Elem().FieldByIndex(k.index) }

// written is a value in the notation of the file.
func written(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return short(x)
	case fmt.Stringer:
		return x.String()
	}
	switch v.Kind() {
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = written(v.Index(i))
		}
		return strings.Join(parts, ", ")
	case reflect.Map:
		var parts []string
		for _, key := range slices.SortedFunc(maps.Keys(entries(v)), strings.Compare) {
			parts = append(parts, key+" = "+entries(v)[key])
		}
		return strings.Join(parts, "; ")
	}
	return fmt.Sprint(v.Interface())
}

func entries(v reflect.Value) map[string]string {
	all := make(map[string]string, v.Len())
	for it := v.MapRange(); it.Next(); {
		all[it.Key().String()] = written(it.Value())
	}
	return all
}

// short is a duration without its zeros, as people write it: 1h and not 1h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Change is a key whose value is another one than before.
type Change struct {
	Key      string
	Live     bool
	Old, New string // what may hold a password is not shown
}

// Take takes over from now what can be changed while the broker runs, and returns every key that differs.
func (c *Config) Take(now *Config) (changes []Change) {
	for _, k := range Keys() {
		mine, theirs := k.of(c), k.of(now)
		if reflect.DeepEqual(mine.Interface(), theirs.Interface()) || mine.Kind() == reflect.Map && mine.Len()+theirs.Len() == 0 {
			continue
		}
		changes = append(changes, Change{Key: k.String(), Live: k.Live, Old: k.Value(c), New: k.Value(now)})
		if k.Live {
			mine.Set(theirs)
		}
	}
	return changes
}
