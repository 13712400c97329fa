"""Certificates of an authority of one's own, as PEM files in a folder: NAME.key, and NAME.crt or, of an authority, NAME.pem."""
import os
import subprocess


def openssl(folder, *words):
    done = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (words, done.stderr)


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def authority(folder, name="ca"):
    openssl(folder, "req", "-x509", *NEW_KEY, "-days", "9", "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", name + ".key", "-out", name + ".pem")


def certificate(folder, domain, name="server", by="ca", begins="", ends=""):
    """Good from a day ago for 90 days, or between two times like 20200131000000Z."""
    openssl(folder, "req", "-new", *NEW_KEY, "-subj", f"/CN={domain}", "-keyout", name + ".key", "-out", name + ".csr")
    with open(os.path.join(folder, name + ".cnf"), "w") as file:
        file.write("[ca]\ndefault_ca = one\n[one]\ndatabase = index\nserial = serial\nnew_certs_dir = .\ndefault_md = sha256\npolicy = any\nunique_subject = no\n[any]\ncommonName = supplied\n"
                   f"[server]\nbasicConstraints = critical,CA:FALSE\nsubjectAltName = DNS:{domain}\n")
    for file_name, text in (("index", ""), ("serial", os.urandom(8).hex().replace("f", "e", 1).lstrip("0").rjust(16, "1") + "\n")):
        with open(os.path.join(folder, file_name), "w") as file:
            file.write(text)
    times = ("-startdate", begins, "-enddate", ends) if ends else ("-days", "90")
    openssl(folder, "ca", "-batch", "-config", name + ".cnf", "-extensions", "server", "-cert", by + ".pem", "-keyfile", by + ".key", "-in", name + ".csr", "-out", name + ".crt", "-notext", *times)
