package conf

import "reflect"

// tomlKeys returns the name of every key that v's type has, sections' keys too.
func tomlKeys(v any) []string {
	var keys []string
	t := reflect.TypeOf(v)
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("toml")
		switch {
		case tag == "-":
		case f.Type.Kind() == reflect.Struct:
			keys = append(keys, tomlKeys(reflect.Zero(f.Type).Interface())...)
		default:
			keys = append(keys, tag)
		}
	}
	return keys
}
