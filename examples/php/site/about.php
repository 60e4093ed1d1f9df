<?php
header('Content-Type: text/plain; charset=utf-8');
foreach (['REQUEST_METHOD', 'REQUEST_URI', 'SCRIPT_NAME', 'SCRIPT_FILENAME', 'PATH_INFO', 'PATH_TRANSLATED', 'QUERY_STRING', 'DOCUMENT_ROOT', 'PHP_SELF'] as $name) {
    echo $name, ' = ', $_SERVER[$name] ?? '(not set)', "\n";
}
