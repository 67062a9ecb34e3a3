package embedded

import "strings"

// splitPath returns the parent's path and the last element. The parent of "/a" is "/"; a path
// without a slash has none, and neither does "/".
func splitPath(path string) (parent, name string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	switch {
	case i < 0 || path == "/":
		return "", "", false
	case i == 0:
		return "/", path[1:], true
	}
	return path[:i], path[i+1:], true
}

// validPath applies ZooKeeper's rules: absolute, no empty, "." or ".." element, no slash at the
// end, no control or private-use character, nothing outside the basic plane. Invalid UTF-8 reads as
// U+FFFD, which is in a refused range.
func validPath(path string) bool {
	if path == "/" {
		return true
	}
	if !strings.HasPrefix(path, "/") {
		return false
	}
	for element := range strings.SplitSeq(path[1:], "/") {
		if element == "" || element == "." || element == ".." {
			return false
		}
	}
	for _, r := range path {
		switch {
		case r <= 0x1f, r >= 0x7f && r <= 0x9f, r >= 0xd800 && r <= 0xf8ff, r >= 0xfff0:
			return false
		}
	}
	return true
}

// reservedPath names the nodes that cannot be deleted.
func reservedPath(path string) bool {
	switch path {
	case "/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config":
		return true
	}
	return false
}
