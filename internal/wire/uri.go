package wire

// NormalURI returns the form of a URI, or of an IRI, by which two that are written differently can be compared: characters that a
// URI cannot have are percent-encoded (RFC 3987, section 3.1), those that need no encoding are not, and encodings are in upper case
// (RFC 3986, section 6.2.2). It returns uri itself if that is its normal form.
func NormalURI(uri string) string {
	i := 0
	for i < len(uri) && legal(uri[i]) {
		i++
	}
	if i == len(uri) {
		return uri
	}
	out := append(make([]byte, 0, len(uri)+16), uri[:i]...)
	for ; i < len(uri); i++ {
		c := uri[i]
		switch {
		case c == '%' && i+2 < len(uri) && isHex(uri[i+1]) && isHex(uri[i+2]):
			if c = unhex(uri[i+1])<<4 | unhex(uri[i+2]); unreserved(c) {
				out = append(out, c)
			} else {
				out = append(out, '%', upperHex[c>>4], upperHex[c&15])
			}
			i += 2
		case legal(c):
			out = append(out, c)
		default:
			out = append(out, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return string(out)
}

const upperHex = "0123456789ABCDEF"

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

// unreserved reports whether c means the same in a URI with and without encoding (RFC 3986, section 2.3).
func unreserved(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '.' || c == '_' || c == '~'
}

// legal reports whether c may stand in a URI by itself (RFC 3986, section 2).
func legal(c byte) bool {
	if unreserved(c) {
		return true
	}
	switch c {
	case ':', '/', '?', '#', '[', ']', '@', '!', '$', '&', '\'', '(', ')', '*', '+', ',', ';', '=':
		return true
	}
	return false
}
