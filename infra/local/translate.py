"""Translates a SAM template into CloudFormation as AWS does, offline: standard input to standard output."""

import json
import sys

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

template = yaml_parse(sys.stdin)
# SAM's translator does not know loops. CloudFormation expands them before SAM's transform, and cfn-lint does so too.
loops = {name: template["Resources"].pop(name) for name in list(template["Resources"]) if name.startswith("Fn::ForEach::")}
for resource in template["Resources"].values():
    for name in ("CodeUri", "DefinitionUri"):
        # `sam package` uploads these.
        if isinstance(resource.get("Properties", {}).get(name), str):
            resource["Properties"][name] = "s3://packages/package"
session = boto3.session.Session(region_name="eu-west-1")
translated = Translator({}, Parser(), boto_session=session).translate(template, {})
translated["Resources"].update(loops)
translated["Transform"] = "AWS::LanguageExtensions"
json.dump(translated, sys.stdout, indent=2)
