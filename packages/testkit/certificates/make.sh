#!/bin/sh
# Recreates the certificates of the TLS tests in this folder. Needs OpenSSL 3.
set -eu
cd "$(dirname "$0")"
days=36500

authority() { # name, common name
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days $days -subj "/CN=$2" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
    -keyout "$1-key.pem" -out "$1.pem" 2>/dev/null
}

certificate() { # name, authority, common name, extensions
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$3" -keyout "$1-key.pem" -out "$1.csr" 2>/dev/null
  printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n%s\n' "$4" |
    openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2-key.pem" -CAcreateserial -days $days -extfile /dev/stdin -out "$1.pem" 2>/dev/null
  rm "$1.csr"
}

authority ca "Test authority"
authority other-ca "Another test authority"
certificate server ca localhost "subjectAltName=DNS:localhost
extendedKeyUsage=serverAuth"
certificate client ca client "extendedKeyUsage=clientAuth"
certificate stranger other-ca client "extendedKeyUsage=clientAuth"
# Deletes the keys of the authorities, so that nobody can sign with them any more.
rm ca-key.pem other-ca-key.pem ./*.srl
chmod 600 ./*-key.pem
